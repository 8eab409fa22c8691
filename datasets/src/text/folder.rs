//! A folder of texts.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::{DatasetError, SizeError};
use crate::holdout::{SplitName, part_of};
use crate::report::ReadReport;
use crate::storage::{Spool, read_file, walk, without_marks};
use crate::text::corpus::ByteCorpus;
use crate::text::split::Splits;

/// All files of a folder and its subfolders, as one corpus: in the order of their paths, one
/// directly after the other, each file read like [`ByteCorpus::open`]. Hidden files and paths that
/// are not files are left out; a file with several links to it is read once.
///
/// # Example
///
/// ```
/// use reformer_datasets::FolderCorpus;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// for (name, length) in [("b.txt", 900), ("a.txt", 800), ("d.txt", 150), ("c.txt", 150)] {
///     std::fs::write(folder.path().join(name), vec![b'x'; length])?;
/// }
/// let texts = FolderCorpus::open(folder.path())?;
/// assert_eq!(texts.corpus().len(), 2_000);
/// // By bytes, as any corpus: the borders fall inside files.
/// assert_eq!(texts.corpus().split().train.len(), 1_800);
/// // By files: no text is in two splits.
/// assert_eq!(texts.split_by_file()?.train.len(), 1_700);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FolderCorpus {
    corpus: ByteCorpus,
    files: Vec<FilePart>,
    /// Whether the names of files say to which part they belong.
    named: bool,
}

/// A file, and its bytes' positions in the corpus.
#[derive(Clone, Debug)]
struct FilePart {
    path: PathBuf,
    range: Range<usize>,
}

impl FolderCorpus {
    /// Reads all files: into memory up to 256 MiB, beyond that into a file in the system's
    /// temporary folder, which is deleted with the corpus. The corpus has the folder's path as its
    /// name.
    ///
    /// # Errors
    /// [`NotFound`](DatasetError::NotFound), [`Unreadable`](DatasetError::Unreadable),
    /// [`NothingIn`](DatasetError::NothingIn) when there is no file, [`Empty`](DatasetError::Empty)
    /// when all are empty, or [`SystemFolder`](DatasetError::SystemFolder),
    /// [`TooManyFiles`](DatasetError::TooManyFiles) and [`NoSpace`](DatasetError::NoSpace).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let folder = path.as_ref();
        let mut spool = Spool::new();
        let mut files = Vec::new();
        let mut end = 0;
        let mut report = ReadReport::at(folder);
        let mut paths = walk(folder, &mut report)?;
        let named = named_parts(&paths);
        if named {
            // Stable: within a part they stay in the order of their paths.
            paths.sort_by_key(|path| part_of(path));
        }
        for path in paths {
            let text = without_marks(&path, read_file(&path)?, &mut report)?;
            spool
                .write_all(&text)
                .map_err(|source| DatasetError::from_io(&path, source))?;
            let range = end..end + text.len();
            end = range.end;
            files.push(FilePart { path, range });
        }
        if files.is_empty() {
            return Err(DatasetError::NothingIn {
                path: folder.to_owned(),
                wanted: "file",
            });
        }
        let bytes = spool
            .into_bytes()
            .map_err(|source| DatasetError::from_io(folder, source))?;
        report.files = files.len();
        let corpus = ByteCorpus::of(report, bytes)?;
        Ok(Self {
            corpus,
            files,
            named,
        })
    }

    /// All bytes, to split them regardless of file borders.
    pub fn corpus(&self) -> &ByteCorpus {
        &self.corpus
    }

    /// The files, in order, each with its bytes' positions in the corpus.
    pub fn files(&self) -> impl ExactSizeIterator<Item = (&Path, Range<usize>)> {
        self.files
            .iter()
            .map(|file| (file.path.as_path(), file.range.clone()))
    }

    /// The parts that the names of files say, if some begin with `train`, and others with `val` or
    /// `dev`: those that begin with `test` are to test on, and all others to train on.
    ///
    /// Otherwise splits the files, in order, into about 90 % of the bytes for training, 5 % for
    /// validation and 5 % for the test, so that no file is in two splits: each border moves to the
    /// nearest start of a file that leaves every split at least one.
    ///
    /// # Errors
    /// [`Setting`](SizeError::Setting) when there are fewer than three files.
    pub fn split_by_file(&self) -> Result<Splits, DatasetError> {
        let n_files = self.files.len();
        if self.named {
            let first = |part| {
                self.files
                    .partition_point(|file| part_of(&file.path) < part)
            };
            return Ok(self.split_at([first(SplitName::Valid), first(SplitName::Test)]));
        }
        if n_files < 3 {
            return Err(SizeError::Setting {
                setting: "the number of files",
                value: n_files,
                limit: "at least 3 to divide them by file",
                way_out: "a larger folder, or divide its corpus by bytes",
            }
            .into());
        }
        let by_bytes = self.corpus.split();
        let valid = self.nearest_start(by_bytes.valid.range().start, 1..n_files - 1);
        let test = self.nearest_start(by_bytes.test.range().start, valid + 1..n_files);
        Ok(self.split_at([valid, test]))
    }

    /// The parts that begin with the first file and with these.
    fn split_at(&self, files: [usize; 2]) -> Splits {
        let end = self.corpus.len();
        let start = |file: usize| self.files.get(file).map_or(end, |file| file.range.start);
        Splits::at(&self.corpus, files.map(start))
    }

    /// The allowed file whose start is nearest to a position.
    fn nearest_start(&self, position: usize, allowed: Range<usize>) -> usize {
        allowed
            .min_by_key(|&file| self.files[file].range.start.abs_diff(position))
            .expect("there are three files or more")
    }
}

/// Whether there are files to train on and files to validate on, by their names.
fn named_parts(paths: &[PathBuf]) -> bool {
    let begins = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.to_lowercase().starts_with("train")
    };
    paths.iter().any(begins) && paths.iter().any(|path| part_of(path) == SplitName::Valid)
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fs;

    use super::*;

    fn folder_of(files: &[(&str, &[u8])]) -> Result<tempfile::TempDir, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        for (name, bytes) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("it is inside"))?;
            fs::write(path, bytes)?;
        }
        Ok(folder)
    }

    #[test]
    fn files_follow_each_other_without_byte_order_marks() -> Result<(), Box<dyn Error>> {
        let folder = folder_of(&[("z", b"last"), ("a/b", b"\xef\xbb\xbffirst"), ("c", b"")])?;
        let texts = FolderCorpus::open(folder.path())?;
        assert_eq!(texts.corpus().as_bytes(), b"firstlast");
        let files: Vec<_> = texts.files().collect();
        assert_eq!(files[0], (&*folder.path().join("a/b"), 0..5));
        assert_eq!(files[1].1, 5..5);
        assert_eq!(files[2].1, 5..9);
        Ok(())
    }

    #[test]
    fn nothing_to_read_is_an_error() -> Result<(), Box<dyn Error>> {
        let none = FolderCorpus::open(folder_of(&[])?.path()).expect_err("no files");
        assert!(matches!(none, DatasetError::NothingIn { .. }));
        let empty = FolderCorpus::open(folder_of(&[("a", b"")])?.path()).expect_err("no bytes");
        assert!(matches!(empty, DatasetError::Empty { .. }));
        let missing = FolderCorpus::open("no/such/folder").expect_err("no folder");
        assert!(matches!(missing, DatasetError::NotFound { .. }));
        Ok(())
    }

    #[test]
    fn names_of_files_say_their_part() -> Result<(), Box<dyn Error>> {
        let folder = folder_of(&[
            ("test.txt", b"ttt"),
            ("train-b.txt", b"B"),
            ("train-a.txt", b"A"),
            ("valid.txt", b"vv"),
            ("other.txt", b"O"),
        ])?;
        let splits = FolderCorpus::open(folder.path())?.split_by_file()?;
        assert_eq!(splits.train.as_bytes(), b"OAB");
        assert_eq!(splits.valid.as_bytes(), b"vv");
        assert_eq!(splits.test.as_bytes(), b"ttt");
        let without_test = folder_of(&[("train.txt", b"AAA"), ("dev.txt", b"v")])?;
        let splits = FolderCorpus::open(without_test.path())?.split_by_file()?;
        assert_eq!(
            (splits.train.len(), splits.valid.len(), splits.test.len()),
            (3, 1, 0)
        );
        Ok(())
    }

    #[test]
    fn borders_are_the_nearest_starts_that_leave_no_split_empty() -> Result<(), Box<dyn Error>> {
        // Length of each file, and where validation and test start.
        for (lengths, borders) in [
            (&[100, 100, 100][..], [100, 200]),
            (&[870, 60, 70], [870, 930]),
            (&[500, 390, 30, 30, 50], [890, 950]),
            (&[10, 10, 980], [10, 20]),
        ] {
            let names: Vec<String> = (0..lengths.len()).map(|i| i.to_string()).collect();
            let contents: Vec<Vec<u8>> = lengths.iter().map(|&n| vec![b'x'; n]).collect();
            let files: Vec<(&str, &[u8])> = names
                .iter()
                .zip(&contents)
                .map(|(name, bytes)| (&**name, &**bytes))
                .collect();
            let splits = FolderCorpus::open(folder_of(&files)?.path())?.split_by_file()?;
            assert_eq!(
                [splits.valid.range().start, splits.test.range().start],
                borders,
                "{lengths:?}"
            );
        }
        let two = folder_of(&[("a", b"x"), ("b", b"y")])?;
        let error = FolderCorpus::open(two.path())?
            .split_by_file()
            .expect_err("two files");
        assert_eq!(
            error.to_string(),
            "the number of files is 2, and must be at least 3 to divide them by file: choose a larger folder, \
             or divide its corpus by bytes"
        );
        Ok(())
    }
}
