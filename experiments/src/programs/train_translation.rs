//! Trains an encoder-decoder to translate.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::device::{self, DeviceName, Job};
use crate::cli::{self, absolute};
use crate::inference::translation::{BleuArguments, Scored};
use crate::out;
use crate::training::{TrainArguments, TrainingProgram, train};
use anyhow::{Context, Result, bail};
use clap::{Args, Parser};
use reformer_core::kernels::TrainBackend;
use reformer_datasets::translation::Bleu;
use reformer_train::data::{PairFiles, PairsConfig};
use reformer_train::{DataConfig, Run, load_model};

const EXAMPLES: &str = "\
Examples:
  Six minutes on the sample that ships with the project, English to German:
    train_translation
  German to English:
    train_translation --reverse
  Two line-aligned files, two others for validation, a GPU:
    train_translation --data train.en train.de --valid dev.en dev.de --preset wmt-base --device cuda
  A table with a tab between a sentence and its translation:
    train_translation --data deu.txt --steps 20000 --name mine
  Resume a run that was stopped or killed:
    train_translation --resume runs/mine

Presets: translation (the default), wmt-base (that of the paper; a large GPU).
A run is written to OUT/NAME: config.json, subwords.json, checkpoint/, metrics.csv, loss.svg,
model.mpk, translations.tsv (source, reference, translation) and bleu.txt. `translate` uses it.
A batch has up to --batch-size times --length pieces on each side; pairs longer than --length are left out.";

/// Train a reversible encoder-decoder to translate sentences.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    pairs: PairArguments,
    #[command(flatten)]
    bleu: BleuArguments,
    #[command(flatten)]
    train: TrainArguments,
}

/// Data to train on.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Data")]
pub(crate) struct PairArguments {
    /// Two line-aligned files, or one with tabs [default: a sample of Tatoeba]
    #[arg(long, value_name = "PATH", num_args = 1..=2, conflicts_with = "resume")]
    data: Vec<PathBuf>,
    /// Validation data in the same form [default: every twentieth source of --data]
    #[arg(long, value_name = "PATH", num_args = 1..=2, requires = "data")]
    valid: Vec<PathBuf>,
    /// Translate in the other direction
    #[arg(long, conflicts_with = "resume")]
    reverse: bool,
}

pub fn main() -> ExitCode {
    cli::program(|arguments: Arguments| {
        let Arguments {
            pairs,
            bleu,
            train: flags,
        } = arguments;
        // Checked before the training, not after it.
        bleu.beam.config()?;
        train(flags, &Translation { pairs, bleu })
    })
}

impl PairArguments {
    /// The data named by the flags, or else that of the preset.
    ///
    /// # Errors
    /// A preset for another task, or, without files, one that has no text of its own.
    pub(crate) fn data(&self, preset: DataConfig) -> Result<DataConfig> {
        let DataConfig::Pairs(mut pairs) = preset else {
            bail!("this preset is not for translation: use translation or wmt-base");
        };
        if let Some(train) = files(&self.data)? {
            pairs = PairsConfig::new(train).with_valid(files(&self.valid)?);
        }
        if matches!(&pairs.train, PairFiles::Lines { source, .. } if source.is_relative()) {
            bail!("this preset has no text of its own: name two files or a table by --data");
        }
        pairs.reversed |= self.reverse;
        Ok(DataConfig::Pairs(pairs))
    }
}

struct Translation {
    pairs: PairArguments,
    bleu: BleuArguments,
}

/// One file is a table; two files are line-aligned.
fn files(paths: &[PathBuf]) -> Result<Option<PairFiles>> {
    let paths: Result<Vec<PathBuf>> = paths.iter().map(|path| absolute(path)).collect();
    Ok(PairFiles::at(&paths?))
}

impl TrainingProgram for Translation {
    fn name(&self) -> &'static str {
        "train_translation"
    }

    fn preset(&self) -> &'static str {
        "translation"
    }

    fn data(&self, preset: DataConfig) -> Result<DataConfig> {
        self.pairs.data(preset)
    }

    fn finish(&self, run: &Run, device: DeviceName) -> Result<()> {
        if self.bleu.bleu_sentences == 0 {
            return Ok(());
        }
        device::run(
            device,
            Score {
                run,
                arguments: &self.bleu,
            },
        )
    }
}

/// Translates the beginning of the validation text, and prints its BLEU.
struct Score<'a> {
    run: &'a Run,
    arguments: &'a BleuArguments,
}

impl Job for Score<'_> {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<()> {
        let Self { run, arguments } = self;
        let (model, config) = load_model::<B::InnerBackend>(run.folder(), &device)?;
        let model = model.into_seq2seq()?;
        let pairs = run.pairs().context("the run has no pairs of sentences")?;
        let Scored {
            sentences,
            translations,
            bleu,
        } = arguments.score(&model, pairs, config.batch_size)?;
        let score = format!("{bleu}\n{}", Bleu::SIGNATURE);
        let file = |name| run.folder().join(name);
        out::save(&file("bleu.txt"), format!("{score}\n").as_bytes())?;
        let rows = sentences.iter().zip(&translations);
        let rows = rows.map(|((source, reference), translation)| {
            format!("{source}\t{reference}\t{translation}\n")
        });
        out::save(
            &file("translations.tsv"),
            rows.collect::<String>().as_bytes(),
        )?;
        println!("\nSome translations:");
        let n_shown = 8.min(sentences.len());
        for number in (0..n_shown).map(|n| n * sentences.len() / n_shown) {
            println!("  {} -> {}", sentences[number].0, translations[number]);
        }
        println!(
            "\n{} sentences, beam of {}: {score}",
            sentences.len(),
            arguments.beam.size
        );
        Ok(())
    }
}
