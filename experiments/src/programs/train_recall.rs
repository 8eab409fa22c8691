//! Trains a model on retrieval tasks, which hashing has to solve by content alone.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::{self, shell_argument};
use crate::training::{TrainArguments, TrainingProgram, train};
use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use reformer_core::attention::Buckets;
use reformer_datasets::recall::NeedlesConfig;
use reformer_train::{DataConfig, TrainConfig};

const EXAMPLES: &str = "\
Examples:
  Pairs of keys and values, at random distances, a few minutes on two CPU cores:
    train_recall
  With full attention instead of hashing:
    train_recall --attention local,full --name full
  Repeated passages, which takes longer:
    train_recall --task passages

The loss counts the value that belongs to a key, the repeated part of a passage, or the letter that a planted
sentence names. Without --length, sequences have 128 tokens, passages 1024, and needles 256.";

/// Sentences planted in a text.
const N_NEEDLES: usize = 4;

/// Train a Reformer to retrieve what it has read.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Task [default: that of the preset, pairs]
    #[arg(long, value_enum, conflicts_with_all = ["resume", "join"])]
    task: Option<TaskName>,
    /// An earlier name of `--task`
    #[arg(long, hide = true, conflicts_with_all = ["resume", "join"])]
    data: Option<String>,
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

impl Arguments {
    /// The task, if one is named.
    ///
    /// # Errors
    /// `--data` with anything else.
    fn task(&self) -> Result<Option<TaskName>> {
        let Some(data) = &self.data else {
            return Ok(self.task);
        };
        match (TaskName::from_str(data, false), self.task) {
            (Ok(task), None) => Ok(Some(task)),
            (Ok(_), Some(_)) => {
                bail!("`--data` is an earlier name of `--task`, which is given too: leave it out")
            }
            (Err(_), _) => {
                let names = TaskName::value_variants().iter();
                let names =
                    names.filter_map(|task| Some(task.to_possible_value()?.get_name().to_owned()));
                bail!(
                    "`--data` is `{data}`, but this program makes its own sequences: name a task by `--task` ({}); for \
                     needles in a text of yours: `--task needles --set data.Needles.path={}`",
                    names.collect::<Vec<_>>().join(", "),
                    shell_argument(Path::new(data))
                )
            }
        }
    }
}

impl TaskName {
    /// Tokens of a sequence that the preset's are too short for: passages return within it, and all needles have room.
    fn length(self) -> Option<usize> {
        match self {
            Self::Pairs => None,
            Self::Passages | Self::PassagesBackwards => Some(1024),
            Self::Needles => {
                let task = NeedlesConfig::new().with_n_needles(N_NEEDLES);
                Some(task.min_seq_length())
            }
        }
    }

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
                n_needles: N_NEEDLES,
            },
        }
    }
}

pub fn main() -> ExitCode {
    cli::program(|arguments: Arguments| {
        let task = arguments.task()?;
        train(arguments.train, &Recall(task))
    })
}

struct Recall(Option<TaskName>);

impl TrainingProgram for Recall {
    fn name(&self) -> &'static str {
        "train_recall"
    }

    fn preset(&self) -> &'static str {
        "recall"
    }

    fn set_defaults(&self, config: &mut TrainConfig) {
        if let Some(length) = self.0.and_then(TaskName::length) {
            config.window_length = length;
            config.model.reformer_mut().lsh.n_buckets = Buckets::Auto;
        }
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
