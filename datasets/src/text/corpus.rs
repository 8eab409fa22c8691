//! All the bytes of one file.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::error::DatasetError;
use crate::holdout::SplitName;
use crate::report::ReadReport;
use crate::storage::{Bytes, read_file, unpacked, without_marks};
use crate::text::split::{Corpus, Split, Splits};

/// The sample that ships with the crate; see `samples/README.md`.
const SAMPLE: &[u8] = include_bytes!("../../samples/tinyshakespeare.txt");

/// The bytes of one file, at least one, and its name. Clones share the bytes.
///
/// # Example
///
/// ```
/// use reformer_datasets::ByteCorpus;
///
/// let corpus = ByteCorpus::sample();
/// assert_eq!(corpus.name(), "tinyshakespeare");
/// assert_eq!(&corpus.as_bytes()[..14], b"First Citizen:");
/// ```
#[derive(Clone)]
pub struct ByteCorpus {
    shared: Arc<Named>,
}

struct Named {
    bytes: Bytes,
    /// Its name, and what was read.
    report: ReadReport,
}

impl fmt::Debug for ByteCorpus {
    // A corpus can have 100 MB, so its bytes are not printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteCorpus")
            .field("name", &self.name())
            .field("len", &self.len())
            .finish()
    }
}

impl ByteCorpus {
    /// A copy of the bytes of a file or a pipe, of any format. Its name is the path as given. Only
    /// a byte order mark at the start of a text is removed, and UTF-16 that starts with one becomes
    /// UTF-8.
    ///
    /// They are kept in memory up to 256 MiB, and beyond that in a file in the system's temporary
    /// folder, deleted with the corpus.
    ///
    /// # Errors
    /// [`NotFound`](DatasetError::NotFound), [`Unreadable`](DatasetError::Unreadable),
    /// [`Directory`](DatasetError::Directory), [`NoFile`](DatasetError::NoFile),
    /// [`NoSpace`](DatasetError::NoSpace), [`Empty`](DatasetError::Empty), or those of a pipe.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let path = path.as_ref();
        Self::of_file(path, read_file(path)?)
    }

    /// The unpacked content of a gzip, xz or zip file; the bytes of any other file unchanged, like
    /// [`open`](Self::open). The format is detected by the content, not by the name.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), [`Malformed`](DatasetError::Malformed) for an archive that is
    /// damaged, cut off or does not contain exactly one file, or [`Bomb`](DatasetError::Bomb) when
    /// its content is far larger than is usual.
    pub fn open_unpacked(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let path = path.as_ref();
        Self::of_file(path, unpacked(path)?)
    }

    fn of_file(path: &Path, bytes: Bytes) -> Result<Self, DatasetError> {
        let mut report = ReadReport::at(path);
        report.files = 1;
        let bytes = without_marks(path, bytes, &mut report)?;
        Self::of(report, bytes)
    }

    /// A corpus of bytes in memory, with a name for messages and records.
    ///
    /// # Errors
    /// [`Empty`](DatasetError::Empty) when there are no bytes.
    pub fn from_bytes(
        name: impl Into<String>,
        bytes: impl Into<Vec<u8>>,
    ) -> Result<Self, DatasetError> {
        Self::of(ReadReport::new(name), bytes.into().into())
    }

    pub(crate) fn of(report: ReadReport, bytes: Bytes) -> Result<Self, DatasetError> {
        if bytes.is_empty() {
            let corpus = report.name;
            return Err(DatasetError::Empty { corpus });
        }
        Ok(Self::named(report, bytes))
    }

    /// The sample that ships with the crate: the first 1,000,000 bytes of "tiny Shakespeare", of
    /// Andrej Karpathy's char-rnn. Public domain.
    pub fn sample() -> Self {
        Self::named(ReadReport::new("tinyshakespeare"), SAMPLE.into())
    }

    fn named(report: ReadReport, bytes: Bytes) -> Self {
        Self {
            shared: Arc::new(Named { bytes, report }),
        }
    }

    /// What was read.
    pub fn report(&self) -> ReadReport {
        self.shared.report.clone().with_count(self.len(), "tokens")
    }

    /// The path it was read from, or the name it was given.
    pub fn name(&self) -> &str {
        &self.shared.report.name
    }

    /// All the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.shared.bytes
    }

    /// The same, shared.
    pub(crate) fn bytes(&self) -> Bytes {
        self.shared.bytes.clone()
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.shared.bytes.len()
    }

    /// Always false: a corpus has at least one byte.
    pub fn is_empty(&self) -> bool {
        self.shared.bytes.is_empty()
    }

    /// Splits the bytes, in order, into 90 % for training, 5 % for validation and 5 % for the test.
    ///
    /// The two borders are at 90 % and 95 % of the length, rounded down. For enwik8, the first
    /// 100,000,000 bytes of a Wikipedia dump, that is the usual split into 90,000,000,
    /// 5,000,000 and 5,000,000 bytes, so results on it are comparable to published ones.
    ///
    /// # Example
    ///
    /// ```
    /// use reformer_datasets::ByteCorpus;
    ///
    /// # fn main() -> Result<(), reformer_datasets::DatasetError> {
    /// let splits = ByteCorpus::from_bytes("letters", *b"abcdefghijklmnopqrstu")?.split();
    /// assert_eq!(splits.train.as_bytes(), b"abcdefghijklmnopqr");
    /// assert_eq!(splits.valid.as_bytes(), b"s");
    /// assert_eq!(splits.test.as_bytes(), b"tu");
    /// # Ok(())
    /// # }
    /// ```
    pub fn split(&self) -> Splits {
        Splits::of(self)
    }

    /// All the bytes as one split, for data that is already split into files.
    pub fn whole_as(&self, name: SplitName) -> Split {
        Split::whole(self.clone(), name)
    }
}

impl Corpus for ByteCorpus {
    const TOKEN: &'static str = "byte";

    fn name(&self) -> &str {
        self.name()
    }

    fn n_tokens(&self) -> usize {
        self.len()
    }

    fn vocab_size(&self) -> usize {
        usize::from(u8::MAX) + 1
    }

    fn write(&self, start: usize, row: &mut [i32]) {
        let bytes = &self.as_bytes()[start..][..row.len()];
        for (token, &byte) in row.iter_mut().zip(bytes) {
            *token = i32::from(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fs;
    use std::io;

    use super::*;

    #[test]
    fn sample_is_the_documented_prefix() {
        let corpus = ByteCorpus::sample();
        assert_eq!(corpus.len(), 1_000_000);
        assert!(corpus.as_bytes().starts_with(b"First Citizen:\nBefore we"));
        assert!(corpus.as_bytes().ends_with(b"GREMIO:\nFor th"));
    }

    #[test]
    fn open_reads_every_byte_and_keeps_the_path_as_name() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("all.bin");
        let bytes: Vec<u8> = (0..=255).rev().collect();
        fs::write(&path, &bytes)?;
        let corpus = ByteCorpus::open(&path)?;
        assert_eq!(corpus.as_bytes(), bytes);
        assert_eq!(corpus.name(), path.display().to_string());
        Ok(())
    }

    #[test]
    fn unpacking_a_raw_file_is_opening_it() -> Result<(), Box<dyn Error>> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), "plain")?;
        assert_eq!(ByteCorpus::open_unpacked(file.path())?.as_bytes(), b"plain");
        Ok(())
    }

    #[test]
    fn missing_file_is_named_and_keeps_its_cause() {
        let error = ByteCorpus::open("no/such.txt").expect_err("there is no such file");
        assert!(matches!(error, DatasetError::NotFound { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "there is no file `no/such.txt`: check the path, or use the sample that ships with the crate"
        );
        let cause = error.source().and_then(|s| s.downcast_ref::<io::Error>());
        assert_eq!(cause.expect("an io error").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn directory_is_named() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let error = ByteCorpus::open(folder.path()).expect_err("a directory is not a corpus");
        assert!(matches!(error, DatasetError::Directory { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!(
                "`{}` is a directory, and a file is needed: name a file in it",
                folder.path().display()
            )
        );
        Ok(())
    }

    #[cfg(unix)] // Elsewhere the system answers that there is no such file.
    #[test]
    fn unreadable_path_is_named_and_keeps_its_cause() -> Result<(), Box<dyn Error>> {
        // A file where the path needs a folder: unreadable for every user, unlike a permission.
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("file");
        fs::write(&file, "x")?;
        let path = file.join("inside");
        let error = ByteCorpus::open(&path).expect_err("a file has no entries");
        assert!(
            matches!(error, DatasetError::Unreadable { .. }),
            "{error:?}"
        );
        assert_eq!(
            error.to_string(),
            format!(
                "`{}` could not be read: check its permissions and the disk",
                path.display()
            )
        );
        assert!(error.source().is_some());
        Ok(())
    }

    #[test]
    fn empty_file_is_named() -> Result<(), Box<dyn Error>> {
        let file = tempfile::NamedTempFile::new()?;
        let error = ByteCorpus::open(file.path()).expect_err("an empty file is not a corpus");
        assert_eq!(
            error.to_string(),
            format!(
                "`{}` has 0 bytes, and a corpus needs at least 1: choose another file",
                file.path().display()
            )
        );
        Ok(())
    }

    #[test]
    fn debug_leaves_the_bytes_out() {
        assert_eq!(
            format!("{:?}", ByteCorpus::sample()),
            "ByteCorpus { name: \"tinyshakespeare\", len: 1000000 }"
        );
    }
}
