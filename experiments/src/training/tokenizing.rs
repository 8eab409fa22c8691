//! Flags that choose a tokenizer for a text to train on.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Result, bail};
use clap::Args;
use reformer_train::data::{TokenizedConfig, TokenizerConfig, run_tokenizer_file};
use reformer_train::inference::tokenizer_file;
use reformer_train::record::read_regular;
use reformer_train::{DataConfig, TrainConfig};

use crate::cli::absolute;

/// Flags that choose a tokenizer.
#[derive(Debug, Args)]
pub(crate) struct TokenArguments {
    /// Tokenizer: bpe:N trains one of N entries on the training text; or a tokenizer.json of Hugging Face or a
    /// spiece.model [default: that of --init-from; otherwise a token is a byte]
    #[arg(long, value_name = "bpe:N|FILE", conflicts_with = "resume")]
    tokenizer: Option<TokenizerName>,
    /// Size of the vocabulary of ids [default: that of --tokenizer, or the largest id and one more]
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    vocab_size: Option<usize>,
}

/// A tokenizer, as a flag names it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum TokenizerName {
    Bpe(usize),
    File(PathBuf),
}

impl FromStr for TokenizerName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(size) = text.strip_prefix("bpe:") else {
            return Ok(Self::File(text.into()));
        };
        match size.parse() {
            Ok(size) if (259..=1 << 20).contains(&size) => Ok(Self::Bpe(size)),
            _ => Err("bpe: is followed by the size of the vocabulary, 259 to 1048576".to_owned()),
        }
    }
}

impl TokenArguments {
    /// The data with the tokenizer that was asked for, or else with that of the run or folder that a training starts
    /// from.
    ///
    /// # Errors
    /// Flags that do not go with the data.
    pub(crate) fn config(&self, data: DataConfig, init_from: Option<&Path>) -> Result<DataConfig> {
        let tokenizer = match &self.tokenizer {
            Some(TokenizerName::Bpe(vocab_size)) => Some(TokenizerConfig::Bpe {
                vocab_size: *vocab_size,
            }),
            Some(TokenizerName::File(path)) => Some(TokenizerConfig::File(absolute(path)?)),
            None => {
                let file = init_from.and_then(|folder| {
                    run_tokenizer_file(folder).or_else(|| tokenizer_file(folder))
                });
                let file = file.map(|file| absolute(&file)).transpose()?;
                if let (None, Some(folder)) = (&file, init_from) {
                    check_bytes(folder)?;
                }
                file.map(TokenizerConfig::File)
            }
        };
        let data = match (data, tokenizer) {
            (DataConfig::Ids(ids), Some(TokenizerConfig::File(path))) => {
                DataConfig::Ids(ids.with_tokenizer(Some(path)))
            }
            (DataConfig::Ids(_), Some(TokenizerConfig::Bpe { .. })) => {
                bail!(
                    "ids are tokens already: name the file of the tokenizer that made them, or leave --tokenizer out"
                )
            }
            (DataConfig::Tokenized(tokenized), Some(tokenizer)) => {
                DataConfig::Tokenized(TokenizedConfig {
                    tokenizer,
                    ..tokenized
                })
            }
            (text, Some(tokenizer)) => {
                DataConfig::Tokenized(TokenizedConfig::new(Box::new(text), tokenizer))
            }
            (data, None) => data,
        };
        match (data, self.vocab_size) {
            (DataConfig::Ids(ids), Some(n)) => Ok(DataConfig::Ids(ids.with_vocab_size(Some(n)))),
            (_, Some(n)) => {
                bail!(
                    "`--vocab-size {n}` is for ids (--format ids16): give a tokenizer its size by --tokenizer bpe:{n}"
                )
            }
            (data, None) => Ok(data),
        }
    }
}

/// Checks that a run to start from, which has no tokenizer in its folder, is one on bytes.
fn check_bytes(folder: &Path) -> Result<()> {
    let Ok(config) = read_regular(&folder.join("config.json")) else {
        return Ok(());
    };
    // A folder of Hugging Face has another form, and is checked where its model is loaded.
    let Ok(TrainConfig { data, .. }) = TrainConfig::from_json(&config) else {
        return Ok(());
    };
    let shown = folder.display();
    match data {
        DataConfig::Tokenized(_) => bail!(
            "`{shown}` is a run on tokens, but its tokenizer, subwords.json, is missing: copy it back"
        ),
        DataConfig::Ids(_) => bail!(
            "`{shown}` is a run on ids, and a text has none without their tokenizer: name it by --tokenizer"
        ),
        _ => Ok(()),
    }
}

/// Gives the model as many tokens as the data has. A model that starts from trained weights keeps those that it has in
/// addition.
pub(crate) fn fit_vocabulary(config: &mut TrainConfig, is_pretrained: bool) -> Result<()> {
    if let Some(n) = config.data.vocab_size()? {
        let own = &mut config.model.reformer_mut().vocab_size;
        *own = match is_pretrained {
            true => n.max(*own),
            false => n,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use reformer_train::data::{IdFiles, IdsConfig};

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        tokens: TokenArguments,
        #[arg(long)]
        resume: bool,
    }

    fn config(flags: &[&str], data: DataConfig) -> Result<DataConfig> {
        let flags = Flags::try_parse_from([&["test"], flags].concat())?;
        flags.tokens.config(data, None)
    }

    fn ids() -> DataConfig {
        let files = IdFiles::at("train.bin".into(), reformer_datasets::tokens::IdWidth::U16);
        DataConfig::Ids(IdsConfig::new(files))
    }

    #[test]
    fn texts_get_the_tokenizer() {
        let bpe = |vocab_size| TokenizerConfig::Bpe { vocab_size };
        let tokenized = |tokenizer| {
            DataConfig::Tokenized(TokenizedConfig::new(
                Box::new(DataConfig::Sample),
                tokenizer,
            ))
        };
        let found = config(&["--tokenizer", "bpe:300"], DataConfig::Sample).unwrap();
        assert_eq!(found, tokenized(bpe(300)));
        let again = config(&["--tokenizer", "bpe:400"], found.clone()).unwrap();
        assert_eq!(again, tokenized(bpe(400)));
        assert_eq!(config(&[], found.clone()).unwrap(), found);
        assert_eq!(config(&[], DataConfig::Sample).unwrap(), DataConfig::Sample);
    }

    #[test]
    fn flags_that_do_not_go_with_the_data_are_refused() {
        let refused = |flags: &[&str], data| config(flags, data).unwrap_err().to_string();
        let text = refused(&["--tokenizer", "bpe:258"], DataConfig::Sample);
        assert!(text.contains("259 to 1048576"), "{text}");
        assert!(refused(&["--tokenizer", "bpe:300"], ids()).contains("ids are tokens already"));
        let text = refused(&["--vocab-size", "300"], DataConfig::Sample);
        assert!(text.contains("`--vocab-size 300` is for ids"), "{text}");
        assert!(refused(&["--vocab-size", "9", "--resume"], ids()).contains("--resume"));
        let DataConfig::Ids(found) = config(&["--vocab-size", "300"], ids()).unwrap() else {
            panic!("ids stay ids");
        };
        assert_eq!(found.vocab_size, Some(300));
    }
}
