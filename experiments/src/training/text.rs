//! Texts to train on.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use reformer_datasets::tokens::{Column, ColumnFormat, ColumnKind, IdWidth};
use reformer_train::DataConfig;
use reformer_train::data::{IdFiles, IdsConfig};

use crate::cli::absolute;

/// The column of most data sets of texts.
const COLUMN: &str = "text";

/// Flags that name a text to train on.
#[derive(Debug, Args)]
pub(crate) struct TextArguments {
    /// Text (or any file): 90 % of it for training, 5 % for validation [default: a sample of Shakespeare]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["resume", "join"])]
    data: Option<PathBuf>,
    /// Format of --data [default: jsonl or parquet for a file of such a name, otherwise bytes]
    #[arg(long, value_enum, requires = "data")]
    format: Option<Format>,
    /// Column of JSON Lines or Parquet: texts, or lists of ids [default: text]
    #[arg(long, value_name = "NAME", requires = "data")]
    column: Option<String>,
}

/// Formats of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A file, or a folder of files, byte by byte
    Bytes,
    /// The official file of enwik8, raw or packed
    Enwik8,
    /// The official file of text8, raw or packed
    Text8,
    /// JSON Lines, raw or packed: a file or a folder of them
    Jsonl,
    /// Parquet, as Hugging Face stores data sets: a file or a folder of them
    Parquet,
    /// Ids of two bytes each, as nanoGPT writes them; `val.bin` next to `train.bin` is to validate on
    Ids16,
    /// Ids of four bytes each
    Ids32,
}

impl Format {
    fn column(self) -> Option<ColumnFormat> {
        match self {
            Self::Jsonl => Some(ColumnFormat::JsonLines),
            Self::Parquet => Some(ColumnFormat::Parquet),
            _ => None,
        }
    }

    /// The format that a path suggests.
    fn of(path: &Path) -> Self {
        match ColumnFormat::of(path).filter(|_| !path.is_dir()) {
            Some(ColumnFormat::JsonLines) => Self::Jsonl,
            Some(ColumnFormat::Parquet) => Self::Parquet,
            None => Self::Bytes,
        }
    }
}

impl TextArguments {
    /// The text named by the flags, or else that of the preset.
    ///
    /// # Errors
    /// A preset for other data, a path that cannot be used, or a column that is not there.
    pub(crate) fn config(&self, preset: DataConfig) -> Result<DataConfig> {
        if !preset.is_language() {
            bail!("this preset is not for texts: use tiny, small, base or enwik8-64k");
        }
        let Some(path) = &self.data else {
            return Ok(preset);
        };
        let path = absolute(path)?;
        let format = self.format.unwrap_or_else(|| Format::of(&path));
        if let Some(format) = format.column() {
            return column(path, format, self.column.as_deref().unwrap_or(COLUMN));
        }
        if let Some(column) = &self.column {
            bail!(
                "`--column {column}` is for JSON Lines and Parquet: say which by --format, or leave it out"
            );
        }
        Ok(match format {
            Format::Enwik8 => DataConfig::Enwik8(path),
            Format::Text8 => DataConfig::Text8(path),
            Format::Ids16 => ids(path, IdWidth::U16),
            Format::Ids32 => ids(path, IdWidth::U32),
            _ if path.is_dir() => DataConfig::Folder(path),
            _ => DataConfig::File(path),
        })
    }
}

/// A column of texts, or of ids.
fn column(path: PathBuf, format: ColumnFormat, name: &str) -> Result<DataConfig> {
    // What comes through a pipe is looked at only once.
    let can_be_read_twice = path.is_file() || path.is_dir() || !path.exists();
    let column = Column::new(path, format, name.to_owned());
    Ok(
        match can_be_read_twice && column.kind()? == ColumnKind::Ids {
            true => DataConfig::Ids(IdsConfig::new(IdFiles::Column(column))),
            false => DataConfig::Column(column),
        },
    )
}

/// A file of ids, or `train.bin` in a folder.
fn ids(path: PathBuf, width: IdWidth) -> DataConfig {
    let path = match path.is_dir() {
        true => path.join("train.bin"),
        false => path,
    };
    DataConfig::Ids(IdsConfig::new(IdFiles::at(path, width)))
}
