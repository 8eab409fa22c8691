//! Writes a language model as a Hugging Face folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use reformer_core::huggingface::{self, Head, HuggingFaceError};
use reformer_core::kernels::{ReformerBackend, TrainBackend};
use reformer_core::model::{ReformerLm, ReformerLmConfig};
use reformer_train::run::check_finite;
use reformer_train::{ModelConfig, load_model};

use crate::cli;
use crate::cli::device::{self, DeviceName, Job};

const EXAMPLES: &str = "\
Examples:
  A run, for transformers' ReformerModelWithLMHead:
    reformer convert runs/mine hf/mine
  A folder with pytorch_model.bin, as safetensors:
    reformer convert reformer-crime-and-punishment crime

A run can be written if Hugging Face has its settings. Those of the presets have a local round, rotary positions and windows of
a bucket, which it does not have; the message names every setting in the way.";

/// Files of a tokenizer, which go along, and their names there.
const TOKENIZER: [(&str, &str); 5] = [
    ("subwords.json", "tokenizer.json"),
    ("spiece.model", "spiece.model"),
    ("tokenizer.json", "tokenizer.json"),
    ("tokenizer_config.json", "tokenizer_config.json"),
    ("special_tokens_map.json", "special_tokens_map.json"),
];

/// Write a language model as a Hugging Face folder: config.json, model.safetensors and, if it has a tokenizer,
/// tokenizer.json.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Folder of a run, or of a Hugging Face model
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// Folder to write
    #[arg(value_name = "TO")]
    to: PathBuf,
}

pub(super) fn main() -> ExitCode {
    cli::program(|arguments: Arguments| device::run(DeviceName::Flex, arguments))
}

impl Job for Arguments {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<()> {
        let Self { from, to } = &self;
        let files: Vec<_> = TOKENIZER
            .iter()
            .map(|(name, name_there)| (from.join(name), to.join(name_there)))
            .filter(|(from, _)| from.is_file())
            .collect();
        if let Some((_, there)) = files.iter().find(|(_, to)| to.exists()) {
            bail!(
                "`{}` exists already, so nothing was written: name another folder",
                there.display()
            );
        }
        let (model, config) = read::<B::InnerBackend>(from, &device)?;
        huggingface::save(&model, &config, to).map_err(|error| match error {
            HuggingFaceError::Unsupported { .. } => anyhow::Error::from(error).context(format!(
                "Hugging Face has no model like that in `{}`",
                from.display()
            )),
            error => error.into(),
        })?;
        for (from, to) in files {
            fs::copy(&from, &to)
                .with_context(|| format!("`{}` cannot be written", to.display()))?;
        }
        println!("Written to {}", to.display());
        Ok(())
    }
}

/// The language model in a folder, and its configuration.
fn read<B: ReformerBackend>(
    folder: &Path,
    device: &B::Device,
) -> Result<(ReformerLm<B>, ReformerLmConfig)> {
    match huggingface::head(folder) {
        Some(Head::Lm) => {
            let (model, config) = huggingface::load(folder, device)?;
            check_finite(folder, &model)?;
            Ok((model, config))
        }
        Some(_) => bail!(
            "the model in `{}` has another head: only language models are written",
            folder.display()
        ),
        None => {
            let (model, config) = load_model::<B>(folder, device)?;
            let model = model.into_lm()?;
            match config.model {
                ModelConfig::Lm(config) => Ok((model, config)),
                other => bail!("the model in `{}` is {}", folder.display(), other.name()),
            }
        }
    }
}
