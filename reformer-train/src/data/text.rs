//! Data that is text.

use std::path::Path;

use reformer_core::ConfigError;
use reformer_datasets::tokens::Column;
use reformer_datasets::{ByteCorpus, FolderCorpus, Split, SplitName, Splits, Wikipedia};

use crate::data::DataConfig;
use crate::error::TrainError;

impl DataConfig {
    /// Whether tokens are bytes of a text.
    pub fn is_text(&self) -> bool {
        matches!(
            self,
            Self::Sample
                | Self::File(_)
                | Self::Folder(_)
                | Self::Enwik8(_)
                | Self::Text8(_)
                | Self::Column(_)
        )
    }

    /// Whether tokens are those of a text, bytes or ids, so that a model can continue texts.
    pub fn is_language(&self) -> bool {
        self.is_text() || matches!(self, Self::Tokenized(_) | Self::Ids(_))
    }

    /// Opens a text as bytes.
    ///
    /// # Errors
    /// A text that is missing, unreadable or empty, and data that is no text.
    pub(crate) fn open_text(&self) -> Result<Splits, TrainError> {
        Ok(match self {
            Self::Sample => ByteCorpus::sample().split(),
            Self::File(path) => ByteCorpus::open(path)?.split(),
            Self::Folder(path) => FolderCorpus::open(path)?.split_by_file()?,
            Self::Enwik8(path) => Wikipedia::Enwik8.open(path)?,
            Self::Text8(path) => Wikipedia::Text8.open(path)?,
            Self::Column(column) => column.open_texts()?,
            _ => {
                return Err(ConfigError::new(
                    "data.text",
                    "other data",
                    "a tokenizer reads texts",
                    "use Sample, File, Folder, Enwik8, Text8 or Column",
                )
                .into());
            }
        })
    }

    /// Opens another text of this kind, all of it.
    pub(crate) fn open_whole(&self, path: &Path) -> Result<Split, TrainError> {
        let corpus = match self {
            Self::Column(column) => {
                let path = path.to_owned();
                let column = Column {
                    path,
                    ..column.clone()
                };
                column.open_texts()?.train.corpus().clone()
            }
            _ => open_text(path)?,
        };
        Ok(corpus.whole_as(SplitName::Valid))
    }
}

/// The bytes of a file, or of all files in a folder.
///
/// # Errors
/// A path that cannot be read, or without any bytes.
pub fn open_text(path: &Path) -> Result<ByteCorpus, TrainError> {
    Ok(match path.is_dir() {
        true => FolderCorpus::open(path)?.corpus().clone(),
        false => ByteCorpus::open(path)?,
    })
}
