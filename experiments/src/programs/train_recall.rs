//! Trains a model on retrieval tasks, which hashing has to solve by content alone.

use std::process::ExitCode;

use crate::cli;
use crate::training::{TrainArguments, TrainingProgram, train};
use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use reformer_train::DataConfig;

const EXAMPLES: &str = "\
Examples:
  Pairs of keys and values, at random distances, a few minutes on two CPU cores:
    train_recall
  With full attention instead of hashing:
    train_recall --attention local,full --name full
  Repeated passages, which takes longer:
    train_recall --task passages --length 1024

The loss counts the value that belongs to a key, the repeated part of a passage, or the letter that a planted
sentence names.";

/// Train a Reformer to retrieve what it has read.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Task [default: that of the preset, pairs]
    #[arg(long, alias = "data", value_enum, conflicts_with_all = ["resume", "join"])]
    task: Option<TaskName>,
    #[command(flatten)]
    train: TrainArguments,
}

/// A task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TaskName {
    /// The value paired with a key: multi-query associative recall.
    Pairs,
    /// Repeated passages of random symbols.
    Passages,
    /// The same, repeated from the last symbol to the first.
    PassagesBackwards,
    /// Sentences planted in a text.
    Needles,
}

impl TaskName {
    fn data(self) -> DataConfig {
        match self {
            Self::Pairs => DataConfig::AssociativeRecall {
                n_pairs: 16,
                fewest_pairs: None,
                n_questions: None,
                n_keys: 64,
                n_values: 64,
            },
            Self::Passages | Self::PassagesBackwards => DataConfig::ReturningPassages {
                n_symbols: 128,
                shortest: 40,
                longest: 100,
                backwards: self == Self::PassagesBackwards,
            },
            Self::Needles => DataConfig::Needles {
                path: None,
                n_needles: 4,
            },
        }
    }
}

pub fn main() -> ExitCode {
    cli::program(|arguments: Arguments| train(arguments.train, &Recall(arguments.task)))
}

struct Recall(Option<TaskName>);

impl TrainingProgram for Recall {
    fn name(&self) -> &'static str {
        "train_recall"
    }

    fn preset(&self) -> &'static str {
        "recall"
    }

    fn data(&self, preset: DataConfig) -> Result<DataConfig> {
        match (self.0, preset) {
            (Some(task), _) => Ok(task.data()),
            (
                None,
                preset @ (DataConfig::AssociativeRecall { .. }
                | DataConfig::ReturningPassages { .. }
                | DataConfig::Needles { .. }),
            ) => Ok(preset),
            (None, _) => bail!("this preset is for other data: use `recall`, or give --task"),
        }
    }
}
