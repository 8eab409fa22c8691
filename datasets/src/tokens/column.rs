//! Texts or ids in a column of JSON Lines or Parquet files.

use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn::config::Config;

use crate::error::DatasetError;
use crate::holdout::part_of;
use crate::report::ReadReport;
use crate::storage::{Spool, walk};
use crate::text::{ByteCorpus, SplitName, Splits};
use crate::tokens::corpus::{Ids, TokenCorpus};
use crate::tokens::documents::{Document, Take, WANTED, read_documents};
use crate::tokens::ids::{check_id, splits};
use crate::tokens::pieces::END;
use crate::tokens::tokenizer::MAX_VOCAB_SIZE;

/// Bytes of text that any Parquet file may contain.
const ALWAYS_ALLOWED: u64 = 64 << 20;
/// Maximum ratio of the bytes of text and of the files that they are from, above
/// [`ALWAYS_ALLOWED`]: a Parquet file has equal texts once.
const MAX_RATIO: u64 = 200;

/// The format of files with named columns.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum ColumnFormat {
    /// A JSON object in each line; raw, gzip, xz or zip.
    JsonLines,
    /// Parquet, as Hugging Face stores data sets. Needs the cargo feature `parquet`.
    Parquet,
}

impl ColumnFormat {
    /// The format that the name of a file suggests: `.parquet`, or `.jsonl` or `.ndjson`, also with
    /// `.gz`, `.xz` or `.zip` at the end.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy().to_lowercase();
        if name.ends_with(".parquet") {
            return Some(Self::Parquet);
        }
        let packed = [".gz", ".xz", ".zip"].iter();
        let name = packed.fold(&*name, |name, end| name.strip_suffix(end).unwrap_or(name));
        let is_json = name.ends_with(".jsonl") || name.ends_with(".ndjson");
        is_json.then_some(Self::JsonLines)
    }

    fn files(self) -> &'static str {
        match self {
            Self::JsonLines => ".jsonl file",
            Self::Parquet => ".parquet file",
        }
    }
}

/// The entries of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// Texts.
    Texts,
    /// Lists of ids.
    Ids,
}

/// A column of a file, or of all files of a format in a folder, in the order of their paths.
///
/// In a folder, files whose names begin with `train`, `val` or `dev`, and `test` are the splits, if
/// there are some to validate on; those to test on are left out. Otherwise the splits are the first
/// 90 % of all bytes or ids, the next 5 % and the rest. Entries that are missing, `null` or an
/// empty list are left out, and the report counts them.
///
/// Files are read one by one, and Parquet files page by page. Texts go to memory up to 256 MiB, and
/// beyond that to a file in the system's temporary folder. Each is followed by a byte 0, which ends
/// it; those inside a text are left out.
///
/// # Example
///
/// ```
/// use reformer_datasets::tokens::{Column, ColumnFormat};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("texts.jsonl");
/// std::fs::write(&path, "{\"id\": 7, \"text\": \"One.\"}\n{\"text\": \"Two.\"}\n")?;
/// let format = ColumnFormat::of(&path).expect("its name says so");
/// let splits = Column::new(path, format, "text".to_owned()).open_texts()?;
/// assert_eq!(splits.train.corpus().as_bytes(), b"One.\0Two.\0");
/// # Ok(())
/// # }
/// ```
#[derive(Config, Debug, PartialEq, Eq)]
pub struct Column {
    /// A file, or a folder of files.
    pub path: PathBuf,
    /// Their format.
    pub format: ColumnFormat,
    /// Name of the column; in Parquet also that of a field in it, with dots.
    pub name: String,
}

/// The files of a column, to train on and, perhaps, to validate on.
struct Shards {
    train: Vec<PathBuf>,
    valid: Vec<PathBuf>,
    report: ReadReport,
}

impl Column {
    /// What the column contains: that of its first entry.
    ///
    /// # Errors
    /// Those of [`open_texts`](Self::open_texts), as far as they concern that entry.
    pub fn kind(&self) -> Result<ColumnKind, DatasetError> {
        let mut kind = ColumnKind::Texts;
        let mut report = ReadReport::at(&self.path);
        for path in self.shards()?.train {
            let next = self.read(&path, &mut report, &mut |document| {
                kind = match document {
                    Document::Text(_) => ColumnKind::Texts,
                    Document::Ids(_) => ColumnKind::Ids,
                };
                Ok(ControlFlow::Break(()))
            });
            if next?.is_break() {
                break;
            }
        }
        Ok(kind)
    }

    /// The splits of a column of texts, as bytes.
    ///
    /// # Errors
    /// [`NotFound`](DatasetError::NotFound), [`Unreadable`](DatasetError::Unreadable),
    /// [`NothingIn`](DatasetError::NothingIn) for a folder without such files,
    /// [`Malformed`](DatasetError::Malformed), [`NoColumn`](DatasetError::NoColumn),
    /// [`NoParquet`](DatasetError::NoParquet), [`Empty`](DatasetError::Empty),
    /// [`Bomb`](DatasetError::Bomb) for far more text than there are bytes in the files,
    /// [`NoSpace`](DatasetError::NoSpace) or those of a folder.
    pub fn open_texts(&self) -> Result<Splits, DatasetError> {
        let shards = self.shards()?;
        let read = |paths: &[PathBuf]| self.read_texts(paths, shards.report.clone());
        let train = read(&shards.train)?;
        Ok(match shards.valid.is_empty() {
            true => train.split(),
            false => Splits::of_two(train, read(&shards.valid)?),
        })
    }

    /// The splits of a column of lists of ids, which follow each other as they are. Without a given
    /// size, the vocabulary ends with the largest id.
    ///
    /// # Errors
    /// Those of [`open_texts`](Self::open_texts), or [`IdTooLarge`](DatasetError::IdTooLarge).
    pub fn open_ids(&self, vocab_size: Option<usize>) -> Result<Splits<TokenCorpus>, DatasetError> {
        let shards = self.shards()?;
        let mut largest = 0;
        let mut read = |paths: &[PathBuf]| {
            let read = self.read_ids(paths, shards.report.clone(), vocab_size);
            let (ids, report, of_these) = read?;
            largest = largest.max(of_these);
            let bytes = ids.into_bytes();
            let bytes = bytes.map_err(|source| DatasetError::from_io(&self.path, source))?;
            Ok::<_, DatasetError>((report, bytes))
        };
        let train = read(&shards.train)?;
        let valid = match shards.valid.is_empty() {
            true => None,
            false => Some(read(&shards.valid)?),
        };
        let vocab_size = vocab_size.unwrap_or(largest as usize + 1);
        let corpus = |(report, (bytes, width))| TokenCorpus::of(report, bytes, width, vocab_size);
        splits(corpus(train), valid.map(corpus))
    }

    fn read_texts(
        &self,
        paths: &[PathBuf],
        report: ReadReport,
    ) -> Result<ByteCorpus, DatasetError> {
        let (mut report, mut n_texts) = (report, 0);
        let mut spool = BufWriter::with_capacity(1 << 16, Spool::new());
        for path in paths {
            let limit = self.limit(path)?;
            let mut n_bytes = 0;
            let mut take = |document: Document<'_>| {
                let Document::Text(text) = document else {
                    return Err(self.mixed(path));
                };
                n_texts += 1;
                n_bytes += text.len() as u64;
                if n_bytes > limit {
                    let path = path.to_owned();
                    return Err(DatasetError::Bomb { path, limit });
                }
                let mut parts = text.as_bytes().split(|&byte| byte == END);
                let written = parts.try_for_each(|part| spool.write_all(part));
                let written = written.and_then(|()| spool.write_all(&[END]));
                written.map_err(|source| DatasetError::from_io(path, source))?;
                Ok(ControlFlow::Continue(()))
            };
            let _ = self.read(path, &mut report, &mut take)?;
        }
        let spool = spool
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error);
        let bytes = spool.and_then(Spool::into_bytes);
        let bytes = bytes.map_err(|source| DatasetError::from_io(&self.path, source))?;
        ByteCorpus::of(report.with_count(n_texts, "texts"), bytes)
    }

    /// The ids, and the largest one.
    fn read_ids(
        &self,
        paths: &[PathBuf],
        mut report: ReadReport,
        vocab_size: Option<usize>,
    ) -> Result<(Ids, ReadReport, u32), DatasetError> {
        let mut ids = Ids::new(vocab_size.unwrap_or(MAX_VOCAB_SIZE));
        let (mut n_lists, mut largest) = (0, 0);
        for path in paths {
            let limit = self.limit(path)?;
            let mut n_bytes = 0;
            let mut take = |document: Document<'_>| {
                let Document::Ids(list) = document else {
                    return Err(self.mixed(path));
                };
                n_lists += 1;
                n_bytes += 4 * list.len() as u64;
                if n_bytes > limit {
                    let path = path.to_owned();
                    return Err(DatasetError::Bomb { path, limit });
                }
                for &id in list {
                    let id = check_id(path, id, vocab_size)?;
                    largest = largest.max(id);
                    ids.push(id)
                        .map_err(|source| DatasetError::from_io(path, source))?;
                }
                Ok(ControlFlow::Continue(()))
            };
            let _ = self.read(path, &mut report, &mut take)?;
        }
        Ok((ids, report.with_count(n_lists, "lists"), largest))
    }

    fn read(
        &self,
        path: &Path,
        report: &mut ReadReport,
        take: &mut Take<'_>,
    ) -> Result<ControlFlow<()>, DatasetError> {
        read_documents(path, self.format, &self.name, report, take)
    }

    /// Maximum number of bytes that a file may give. Files of text were limited when they were
    /// unpacked.
    fn limit(&self, path: &Path) -> Result<u64, DatasetError> {
        let metadata = std::fs::metadata(path);
        let metadata = metadata.map_err(|source| DatasetError::from_io(path, source))?;
        Ok(match self.format {
            ColumnFormat::JsonLines => u64::MAX,
            ColumnFormat::Parquet => ALWAYS_ALLOWED.max(metadata.len().saturating_mul(MAX_RATIO)),
        })
    }

    /// The error of a column with texts and ids.
    fn mixed(&self, path: &Path) -> DatasetError {
        DatasetError::NoColumn {
            path: path.to_owned(),
            column: self.name.clone(),
            wanted: WANTED,
            found: " (it has both)".to_owned(),
        }
    }

    fn shards(&self) -> Result<Shards, DatasetError> {
        let mut report = ReadReport::at(&self.path);
        let [mut train, mut valid] = [Vec::new(), Vec::new()];
        if !self.path.is_dir() {
            train.push(self.path.clone());
            return Ok(Shards {
                train,
                valid,
                report,
            });
        }
        for file in walk(&self.path, &mut report)? {
            match part_of(&file) {
                _ if ColumnFormat::of(&file) != Some(self.format) => {
                    report.skip("files of another kind", file.display());
                }
                SplitName::Train => train.push(file),
                SplitName::Valid => valid.push(file),
                SplitName::Test => report.skip("files of the test part", file.display()),
            }
        }
        if train.is_empty() {
            // There is nothing else to train on.
            train.append(&mut valid);
        }
        match train.is_empty() {
            true => Err(DatasetError::NothingIn {
                path: self.path.clone(),
                wanted: self.format.files(),
            }),
            false => Ok(Shards {
                train,
                valid,
                report,
            }),
        }
    }
}
