//! Trains a model to repeat what it has read: the synthetic task of the paper, section 5.

use std::process::ExitCode;

use crate::cli;
use crate::training::{TrainArguments, TrainingProgram, train};
use anyhow::{Result, bail};
use clap::Parser;
use reformer_train::DataConfig;

const EXAMPLES: &str = "\
Examples:
  A few minutes on two CPU cores:
    train_duplication
  One hash round in training:
    train_duplication --n-rounds 1 --name one-round
  The length of the paper; a row of positions has one less than half of it:
    train_duplication --length 1024 --set 'model.reformer.position.Axial.shape=[3,511]'

Sequences are 0w0w with random symbols w; only the second half counts in the loss.";

/// Train a Reformer on the duplication task.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Number of different symbols in w
    #[arg(long, value_name = "N", conflicts_with_all = ["resume", "join"])]
    symbols: Option<usize>,
    #[command(flatten)]
    train: TrainArguments,
}

pub fn main() -> ExitCode {
    cli::program(|arguments: Arguments| train(arguments.train, &Duplication(arguments.symbols)))
}

/// Sets the number of symbols, if it is given.
struct Duplication(Option<usize>);

impl TrainingProgram for Duplication {
    fn name(&self) -> &'static str {
        "train_duplication"
    }

    fn preset(&self) -> &'static str {
        "duplication"
    }

    fn data(&self, preset: DataConfig) -> Result<DataConfig> {
        match (self.0, preset) {
            (Some(n_symbols), _) => Ok(DataConfig::Duplication { n_symbols }),
            (None, preset @ DataConfig::Duplication { .. }) => Ok(preset),
            (None, _) => {
                bail!("this preset is for other data: use `duplication`, or give --symbols")
            }
        }
    }
}
