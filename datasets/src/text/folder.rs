//! A folder of texts.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::DatasetError;
use crate::holdout::SplitName;
use crate::report::ReadReport;
use crate::storage::{Spool, read_file, walk, without_marks};
use crate::text::corpus::ByteCorpus;
use crate::text::split::{Split, Splits};

/// All files of a folder and its subfolders, as one corpus: in the order of their paths, one directly after
/// the other, each file read like [`ByteCorpus::open`]. Hidden files and paths that are not files are left out; a file
/// with several links to it is read once.
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
}

/// A file, and its bytes' positions in the corpus.
#[derive(Clone, Debug)]
struct FilePart {
    path: PathBuf,
    range: Range<usize>,
}

impl FolderCorpus {
    /// Reads all files: into memory up to 256 MiB, beyond that into a file in the system's temporary folder,
    /// which is deleted with the corpus. The corpus has the folder's path as its name.
    ///
    /// # Errors
    ///
    /// [`NotFound`](DatasetError::NotFound), [`Unreadable`](DatasetError::Unreadable),
    /// [`NothingIn`](DatasetError::NothingIn) when there is no file, [`Empty`](DatasetError::Empty) when
    /// all are empty, or [`SystemFolder`](DatasetError::SystemFolder),
    /// [`TooManyFiles`](DatasetError::TooManyFiles) and [`NoRoom`](DatasetError::NoRoom).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let folder = path.as_ref();
        let mut spool = Spool::new();
        let mut files = Vec::new();
        let mut end = 0;
        let mut report = ReadReport::at(folder);
        for path in walk(folder, &mut report)? {
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
        Ok(Self { corpus, files })
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

    /// Splits the files, in order, into about 90 % of the bytes for training, 5 % for validation and 5 % for the test, so
    /// that no file is in two splits: each border moves to the nearest start of a file that leaves every split at
    /// least one.
    ///
    /// # Errors
    ///
    /// [`Setting`](DatasetError::Setting) when there are fewer than three files.
    pub fn split_by_file(&self) -> Result<Splits, DatasetError> {
        let n_files = self.files.len();
        if n_files < 3 {
            return Err(DatasetError::Setting {
                setting: "the number of files",
                value: n_files,
                limit: "at least 3 to divide them by file",
                way_out: "a larger folder, or divide its corpus by bytes",
            });
        }
        let by_bytes = self.corpus.split();
        let valid = self.nearest_start(by_bytes.valid.range().start, 1..n_files - 1);
        let test = self.nearest_start(by_bytes.test.range().start, valid + 1..n_files);
        let [train_end, valid_end] = [valid, test].map(|file| self.files[file].range.start);
        let part = |name, range| Split::new(self.corpus.clone(), name, range);
        Ok(Splits {
            train: part(SplitName::Train, 0..train_end),
            valid: part(SplitName::Valid, train_end..valid_end),
            test: part(SplitName::Test, valid_end..self.corpus.len()),
        })
    }

    /// The allowed file whose start is nearest to a position.
    fn nearest_start(&self, position: usize, allowed: Range<usize>) -> usize {
        allowed
            .min_by_key(|&file| self.files[file].range.start.abs_diff(position))
            .expect("there are three files or more")
    }
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
