//! enwik8 and text8.

use std::path::Path;

use crate::error::DatasetError;
use crate::text::corpus::ByteCorpus;
use crate::text::split::Splits;

/// The two texts of 100,000,000 bytes of character-level benchmarks, from Matt Mahoney's
/// [large text compression benchmark](https://www.mattmahoney.net/dc/textdata.html).
///
/// Both are split into 90,000,000 bytes for training, 5,000,000 for validation and 5,000,000 for
/// the test, in the order of the file, as in the literature. Tokens are bytes, of which enwik8 uses
/// 205 and text8 27, so the model's vocabulary has 256 entries for both; unused ones cost nothing
/// in bits per byte.
///
/// # Example
///
/// ```no_run
/// use reformer_datasets::Wikipedia;
///
/// # fn main() -> Result<(), reformer_datasets::DatasetError> {
/// // As it is published, or unpacked, or packed in another way.
/// let splits = Wikipedia::Enwik8.open("data/enwik8.zip")?;
/// assert_eq!(splits.train.len(), 90_000_000);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wikipedia {
    /// The first 10^8 bytes of the English Wikipedia of 3 March 2006, XML in UTF-8.
    Enwik8,
    /// The 10^8 characters of cleaned Wikipedia text: letters `a` to `z` and single spaces.
    Text8,
}

impl Wikipedia {
    /// Bytes of the whole text.
    pub const LEN: usize = 100_000_000;

    /// Reads the published file: raw, or packed as zip, gzip or xz, detected by the content.
    ///
    /// # Errors
    /// [`WrongSize`](DatasetError::WrongSize) when it does not have 100,000,000 bytes,
    /// [`Malformed`](DatasetError::Malformed) when it starts with something else, or those of
    /// [`ByteCorpus::open_unpacked`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Splits, DatasetError> {
        let path = path.as_ref();
        let corpus = ByteCorpus::open_unpacked(path)?;
        // Detects a mix-up of the two, and error pages instead of data.
        let start = self.start();
        if !corpus.as_bytes().starts_with(start) {
            let found = &corpus.as_bytes()[..start.len().min(corpus.len())];
            return Err(DatasetError::malformed(
                path,
                self.name(),
                format!("it starts with \"{}\"", found.escape_ascii()),
            ));
        }
        if corpus.len() != Self::LEN {
            return Err(DatasetError::WrongSize {
                corpus: corpus.name().to_owned(),
                name: self.name(),
                bytes: corpus.len(),
                bytes_expected: Self::LEN,
            });
        }
        Ok(corpus.split())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Enwik8 => "enwik8",
            Self::Text8 => "text8",
        }
    }

    fn start(self) -> &'static [u8] {
        match self {
            Self::Enwik8 => b"<mediawiki ",
            Self::Text8 => b" anarchism ",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fs;

    use super::*;

    fn file_of(bytes: &[u8]) -> Result<tempfile::NamedTempFile, Box<dyn Error>> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), bytes)?;
        Ok(file)
    }

    #[test]
    fn another_size_is_named() -> Result<(), Box<dyn Error>> {
        let file = file_of(format!("<mediawiki {}", "x".repeat(989)).as_bytes())?;
        let error = Wikipedia::Enwik8
            .open(file.path())
            .expect_err("1,000 bytes");
        assert_eq!(
            error.to_string(),
            format!(
                "`{}` has 1,000 bytes, but enwik8 has 100,000,000: use the whole file, or read it like any \
                 other text (figures on a part of it are not comparable with published ones)",
                file.path().display()
            )
        );
        Ok(())
    }

    #[test]
    fn another_text_is_refused() -> Result<(), Box<dyn Error>> {
        let file = file_of(b" anarchism originated as a term of abuse")?;
        let error = Wikipedia::Enwik8
            .open(file.path())
            .expect_err("it is text8");
        assert!(matches!(error, DatasetError::Malformed { .. }));
        assert!(
            error
                .to_string()
                .contains("is not enwik8 (it starts with \" anarchism \")")
        );
        let error = Wikipedia::Text8
            .open(file.path())
            .expect_err("only the beginning of text8");
        assert!(matches!(error, DatasetError::WrongSize { bytes: 40, .. }));
        Ok(())
    }

    #[test]
    fn whole_text_is_divided_as_in_the_literature() -> Result<(), Box<dyn Error>> {
        // A hole, which takes no space on the disk, and is never read.
        let file = file_of(Wikipedia::Text8.start())?;
        file.as_file().set_len(Wikipedia::LEN as u64)?;
        let splits = Wikipedia::Text8.open(file.path())?;
        assert_eq!(splits.train.range(), 0..90_000_000);
        assert_eq!(splits.valid.range(), 90_000_000..95_000_000);
        assert_eq!(splits.test.range(), 95_000_000..100_000_000);
        Ok(())
    }
}
