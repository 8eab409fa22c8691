//! Texts for language models as ids of a vocabulary.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::config::Config;
use reformer_core::ConfigError;
use reformer_datasets::tokens::{
    Column, IdWidth, TokenCorpus, Tokenizer, decoded_bytes_per_token, encode, open_ids,
    train_tokenizer,
};
use reformer_datasets::{Corpus, Split, SplitName, Splits};

use crate::data::{Data, DataConfig};
use crate::error::TrainError;

/// The vocabulary in a run's folder, as Hugging Face's tokenizers write it.
pub(crate) const SUBWORDS: &str = "subwords.json";

/// A tokenizer of a language model.
#[derive(Config, Debug, PartialEq, Eq)]
pub enum TokenizerConfig {
    /// Byte pair encoding, trained on the training split.
    Bpe {
        /// Entries of the vocabulary, at least 259.
        vocab_size: usize,
    },
    /// A `tokenizer.json` of Hugging Face's tokenizers, or a `.model` file of SentencePiece.
    File(
        /// Its path.
        PathBuf,
    ),
}

/// A text as ids of a tokenizer's vocabulary.
#[derive(Config, Debug, PartialEq, Eq)]
pub struct TokenizedConfig {
    /// The text: data whose tokens are bytes.
    pub text: Box<DataConfig>,
    /// The tokenizer. A run has a copy in its folder, and reads that when it is resumed.
    pub tokenizer: TokenizerConfig,
}

/// Where ids are.
#[derive(Config, Debug, PartialEq, Eq)]
pub enum IdFiles {
    /// A file that contains nothing else.
    Raw {
        /// Its path.
        path: PathBuf,
        /// Another one to validate on. Default: 5 % of the ids after the first 90 %.
        valid: Option<PathBuf>,
        /// How it stores an id.
        width: IdWidth,
    },
    /// A column of lists of ids.
    Column(
        /// Where it is.
        Column,
    ),
}

/// Ids that a tokenizer has made before.
#[derive(Config, Debug, PartialEq, Eq)]
pub struct IdsConfig {
    /// Where they are.
    pub files: IdFiles,
    /// Size of the vocabulary. Default: that of the tokenizer or, without one, the largest id and one more.
    pub vocab_size: Option<usize>,
    /// The tokenizer that made them. Without it, models continue ids by ids.
    pub tokenizer: Option<PathBuf>,
}

impl TokenizerConfig {
    fn make(&self, text: &Split) -> Result<Tokenizer, TrainError> {
        Ok(match self {
            Self::Bpe { vocab_size } => {
                let tokenizer = train_tokenizer(text, *vocab_size)?;
                let found = tokenizer.vocab_size();
                if found < *vocab_size {
                    return Err(ConfigError::new(
                        "data.tokenizer",
                        format!("bpe:{vocab_size}"),
                        format!("the text gives {found} entries"),
                        format!("use bpe:{found}"),
                    )
                    .into());
                }
                tokenizer
            }
            Self::File(path) => Tokenizer::open(path)?,
        })
    }

    /// Size of the vocabulary; the largest possible one before a tokenizer is trained.
    fn vocab_size(&self) -> Result<usize, TrainError> {
        Ok(match self {
            Self::Bpe { vocab_size } => *vocab_size,
            Self::File(path) => Tokenizer::open(path)?.vocab_size(),
        })
    }
}

impl TokenizedConfig {
    /// Opens the text. The vocabulary is that of the run's folder, if there is one.
    pub(crate) fn open(&self, folder: Option<&Path>) -> Result<Data, TrainError> {
        let Splits { train, valid, .. } = self.text.open_text()?;
        let tokenizer = match saved(folder)? {
            Some(tokenizer) => tokenizer,
            // In a run that has begun, another vocabulary would be that of another run.
            None => match folder.filter(|folder| folder.exists()) {
                Some(folder) => return Err(no_tokenizer(folder)),
                None => self.tokenizer.make(&train)?,
            },
        };
        let [train, valid] = [train, valid].map(|split| encode(&split, &tokenizer));
        Ok(Data::of_ids(train?, valid?, Some(Arc::new(tokenizer))))
    }

    /// Opens the validation data of a run alone.
    pub(crate) fn open_valid(&self, folder: &Path) -> Result<Data, TrainError> {
        of_run(&self.text.open_text()?.valid, folder)
    }

    /// Opens another text for evaluation, with the vocabulary of the run.
    pub(crate) fn open_others(&self, folder: &Path, path: &Path) -> Result<Data, TrainError> {
        of_run(&self.text.open_whole(path)?, folder)
    }

    /// Size of the vocabulary.
    pub(crate) fn vocab_size(&self) -> Result<usize, TrainError> {
        self.tokenizer.vocab_size()
    }
}

impl IdFiles {
    /// A file of ids; `val.bin` is to validate on if it lies next to `train.bin`, as nanoGPT writes them.
    pub fn at(path: PathBuf, width: IdWidth) -> Self {
        let is_train = path.file_name().is_some_and(|name| name == "train.bin");
        let valid = path.with_file_name("val.bin");
        let valid = (is_train && valid.is_file()).then_some(valid);
        Self::Raw { path, valid, width }
    }

    fn open(&self, vocab_size: Option<usize>) -> Result<Splits<TokenCorpus>, TrainError> {
        Ok(match self {
            Self::Raw { path, valid, width } => {
                open_ids(path, valid.as_deref(), *width, vocab_size)?
            }
            Self::Column(column) => column.open_ids(vocab_size)?,
        })
    }

    /// The same in another file, all of it.
    fn open_whole(
        &self,
        path: &Path,
        vocab_size: Option<usize>,
    ) -> Result<Split<TokenCorpus>, TrainError> {
        let path = path.to_owned();
        let others = match self {
            Self::Raw { width, .. } => Self::Raw {
                path,
                valid: None,
                width: *width,
            },
            Self::Column(column) => Self::Column(Column {
                path,
                ..column.clone()
            }),
        };
        let splits = others.open(vocab_size)?;
        Ok(splits.train.corpus().whole_as(SplitName::Valid))
    }

    pub(crate) fn paths(&self) -> Vec<&Path> {
        match self {
            Self::Raw { path, valid, .. } => {
                let files = std::iter::once(path).chain(valid);
                files.map(PathBuf::as_path).collect()
            }
            Self::Column(column) => vec![&column.path],
        }
    }
}

impl IdsConfig {
    /// Opens the ids. The tokenizer is that of the run's folder, if there is one.
    pub(crate) fn open(&self, folder: Option<&Path>) -> Result<Data, TrainError> {
        let tokenizer = self.tokenizer(folder)?;
        let Splits { train, valid, .. } = self.files.open(self.limit(tokenizer.as_ref()))?;
        Ok(Data::of_ids(train, valid, tokenizer.map(Arc::new)))
    }

    /// Opens other ids for evaluation.
    pub(crate) fn open_others(&self, folder: &Path, path: &Path) -> Result<Data, TrainError> {
        let tokenizer = self.tokenizer(Some(folder))?;
        let ids = self
            .files
            .open_whole(path, self.limit(tokenizer.as_ref()))?;
        Ok(Data::of_ids(ids.clone(), ids, tokenizer.map(Arc::new)))
    }

    /// Size of the vocabulary.
    pub(crate) fn vocab_size(&self) -> Result<usize, TrainError> {
        let tokenizer = self.tokenizer(None)?;
        Ok(match self.limit(tokenizer.as_ref()) {
            Some(limit) => limit,
            None => self.files.open(None)?.train.corpus().vocab_size(),
        })
    }

    fn tokenizer(&self, folder: Option<&Path>) -> Result<Option<Tokenizer>, TrainError> {
        let Some(path) = &self.tokenizer else {
            return Ok(None);
        };
        Ok(Some(match saved(folder)? {
            Some(tokenizer) => tokenizer,
            None => Tokenizer::open(path)?,
        }))
    }

    /// The given size of the vocabulary, or that of the tokenizer.
    fn limit(&self, tokenizer: Option<&Tokenizer>) -> Option<usize> {
        self.vocab_size.or(tokenizer.map(Tokenizer::vocab_size))
    }
}

/// A text through the tokenizer of a run.
fn of_run(text: &Split, folder: &Path) -> Result<Data, TrainError> {
    let Some(tokenizer) = saved(Some(folder))? else {
        return Err(no_tokenizer(folder));
    };
    let ids = encode(text, &tokenizer)?;
    Ok(Data::of_ids(ids.clone(), ids, Some(Arc::new(tokenizer))))
}

/// Mean bytes of text per token of a split, if it is known.
pub(crate) fn bytes_per_token(
    split: &Split<TokenCorpus>,
    tokenizer: Option<&Tokenizer>,
) -> Option<f64> {
    let decoded = |tokenizer| decoded_bytes_per_token(split, tokenizer).ok().flatten();
    split.bytes_per_token().or_else(|| decoded(tokenizer?))
}

/// The tokenizer in a folder, if there is one.
fn saved(folder: Option<&Path>) -> Result<Option<Tokenizer>, TrainError> {
    let path = folder.and_then(run_tokenizer_file);
    Ok(path.map(Tokenizer::open).transpose()?)
}

/// The tokenizer of a language model's run; `None` if its tokens are bytes, or ids without a known tokenizer.
///
/// # Errors
/// A file that is missing or damaged.
pub fn load_tokenizer(folder: &Path, data: &DataConfig) -> Result<Option<Tokenizer>, TrainError> {
    match data {
        DataConfig::Tokenized(_)
        | DataConfig::Ids(IdsConfig {
            tokenizer: Some(_), ..
        }) => match saved(Some(folder))? {
            Some(tokenizer) => Ok(Some(tokenizer)),
            None => Err(no_tokenizer(folder)),
        },
        _ => Ok(None),
    }
}

/// The file of the tokenizer, or of the vocabulary, in the folder of a run that has one.
pub fn run_tokenizer_file(folder: &Path) -> Option<PathBuf> {
    Some(folder.join(SUBWORDS)).filter(|path| path.is_file())
}

fn no_tokenizer(folder: &Path) -> TrainError {
    ConfigError::new(
        "data.tokenizer",
        format!("`{}`", folder.display()),
        format!("a run on tokens has a {SUBWORDS} in its folder, and this one has none"),
        "copy it back",
    )
    .into()
}

/// The data of a run for a process without its folder: the tokenizer is the file in that folder, which all
/// processes must be able to read.
pub(crate) fn for_members(data: &DataConfig, folder: &Path) -> DataConfig {
    let mut data = data.clone();
    let own = run_tokenizer_file(folder).and_then(|path| std::path::absolute(path).ok());
    match (&mut data, own) {
        (DataConfig::Tokenized(tokenized), Some(own)) => {
            tokenized.tokenizer = TokenizerConfig::File(own);
        }
        (DataConfig::Ids(ids), Some(own)) => ids.tokenizer = Some(own),
        _ => {}
    }
    data
}

/// Saves a vocabulary in a run's folder, which has all of it or nothing.
pub(crate) fn save_vocabulary(
    folder: &Path,
    save: impl FnOnce(&Path) -> Result<(), reformer_datasets::DatasetError>,
) -> Result<(), TrainError> {
    let path = folder.join(SUBWORDS);
    let partial = path.with_extension("partial");
    save(&partial)?;
    fs::rename(&partial, &path).map_err(|source| TrainError::Write { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_processes_read_the_tokenizer_of_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let bpe = TokenizerConfig::Bpe { vocab_size: 300 };
        let text = Box::new(DataConfig::Sample);
        let data = DataConfig::Tokenized(TokenizedConfig::new(text.clone(), bpe));
        assert_eq!(for_members(&data, folder.path()), data);
        let own = folder.path().join(SUBWORDS);
        fs::write(&own, "{}").unwrap();
        let found = for_members(&data, folder.path());
        let file = TokenizedConfig::new(text, TokenizerConfig::File(own));
        assert_eq!(found, DataConfig::Tokenized(file));
        assert_eq!(
            for_members(&DataConfig::Sample, folder.path()),
            DataConfig::Sample
        );
    }

    #[test]
    fn data_of_tokens_is_written_and_read_again() {
        let column = Column::new(
            "data".into(),
            reformer_datasets::tokens::ColumnFormat::Parquet,
            "text".to_owned(),
        );
        let ids = IdsConfig::new(IdFiles::at("x/train.bin".into(), IdWidth::U16));
        let text = Box::new(DataConfig::Column(column.clone()));
        let file = TokenizerConfig::File("tokenizer.json".into());
        for data in [
            DataConfig::Tokenized(TokenizedConfig::new(text, file)),
            DataConfig::Ids(ids.clone().with_vocab_size(Some(50_257))),
            DataConfig::Ids(IdsConfig::new(IdFiles::Column(column))),
        ] {
            let json = serde_json::to_vec(&data).unwrap();
            assert_eq!(serde_json::from_slice::<DataConfig>(&json).unwrap(), data);
            assert!(data.is_language() && !data.is_text());
        }
        assert_eq!(DataConfig::Ids(ids).paths(), [Path::new("x/train.bin")]);
    }
}
