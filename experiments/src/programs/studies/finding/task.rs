//! The tasks, and the lengths at which trained models are evaluated.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::ValueEnum;
use reformer_datasets::recall::{AssociativeRecallConfig, NeedlesConfig, ReturningPassagesConfig};
use reformer_datasets::{Sequences, Splits};
use reformer_train::{DataConfig, TrainConfig};

use crate::cli::overrides;
use crate::cli::preset;
use crate::study::{DataArguments, DataKind, Scale};

/// Seed of the evaluation sequences, which no training uses.
const EVAL_SEED: u64 = 2023;

/// A task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Task {
    /// The value paired with a key: multi-query associative recall.
    Pairs,
    /// The next symbol when a passage of random symbols is repeated.
    Passages,
    /// The same with passages repeated backwards, which shared queries and keys can match.
    PassagesBackwards,
    /// The letter named by a sentence planted in a novel (--text: a folder of novels).
    Needles,
}

/// A length to evaluate at, with the number of items to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EvaluationLength {
    /// Tokens of a sequence.
    pub(super) length: usize,
    /// Number of pairs or sentences; passages are as many as in training.
    pub(super) n: usize,
    /// Number of sequences.
    pub(super) n_sequences: u64,
}

impl EvaluationLength {
    pub(super) fn key(self) -> String {
        format!("{}-{}", self.length, self.n)
    }

    pub(super) fn label(self) -> String {
        format!("asking for {} in {} tokens", self.n, self.length)
    }
}

/// A training has two stages: the task is learnt on short sequences first, many times faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Short sequences with little to find, from random weights.
    Beginning,
    /// Sequences of the evaluated length, from the weights of the first stage.
    Main,
}

/// One head, and hashing as in the paper (no local round), with the windows of the presets.
const ALL: &[&str] = &[
    "model.reformer.n_heads=1",
    "model.reformer.lsh.local_round=false",
    "model.reformer.lsh.n_buckets={\"Count\":16}",
    "model.reformer.lsh.chunk_length=64",
    "model.reformer.lsh.window={\"Bucket\":{\"len\":64}}",
];
/// Rotary positions that turn enough from one byte to the next for heads to tell the last few apart.
const NEAR: &str = "model.reformer.position={\"Rotary\":{\"base\":30.0}}";
const MAIN: &[&str] = &[
    "window_length=512",
    "batch_size=4",
    "steps=1600",
    "steps_per_epoch=400",
    "schedule.Cosine.rate=0.002",
];
const PAPER: &[&str] = &[
    "window_length=2048",
    "batch_size=16",
    "steps=10000",
    "steps_per_epoch=500",
    "model.reformer.lsh.n_buckets={\"Count\":64}",
    "schedule.Cosine.rate=0.002",
];
const SMOKE: &[&str] = &[
    "batch_size=2",
    "steps=4",
    "steps_per_epoch=2",
    "eval_windows=2",
    "model.reformer.d_model=16",
];

impl Task {
    /// Name of the study of this task.
    pub(super) fn study(self) -> &'static str {
        match self {
            Self::Pairs => "finding_pairs",
            Self::Passages => "finding_passages",
            Self::PassagesBackwards => "finding_passages_backwards",
            Self::Needles => "finding_needles",
        }
    }

    /// Configuration shared by all trainings of a stage.
    ///
    /// # Errors
    /// A text that does not exist.
    pub(super) fn config(
        self,
        stage: Stage,
        scale: Scale,
        data: &DataArguments,
    ) -> Result<TrainConfig> {
        let of_stage: &[&str] = match stage {
            Stage::Beginning => scale.pick(SMOKE, self.beginning(), self.beginning()),
            Stage::Main => scale.pick(SMOKE, MAIN, PAPER),
        };
        let sets = [ALL, of_stage, self.own()].concat();
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        let mut config = overrides::apply(preset::load("recall")?, &sets)?;
        config.data = self.data(stage, scale, data)?;
        config.model.reformer_mut().vocab_size = match config.data {
            DataConfig::AssociativeRecall { n_values, .. } => 1 + n_values + n_keys(scale),
            _ => 256,
        };
        Ok(config)
    }

    /// What this task has of its own, in both stages.
    fn own(self) -> &'static [&'static str] {
        match self {
            // Local windows of 8 to 10 bytes hold the name and the letter of a sentence, for different heads.
            Self::Needles => &[
                "model.reformer.n_heads=4",
                "model.reformer.local.before=4",
                NEAR,
                "batch_size=16",
            ],
            _ => &[],
        }
    }

    /// The first stage of training.
    fn beginning(self) -> &'static [&'static str] {
        match self {
            Self::Pairs => &["window_length=128", "steps=1000", "steps_per_epoch=250"],
            Self::Passages | Self::PassagesBackwards => {
                &["window_length=128", "steps=2000", "steps_per_epoch=250"]
            }
            Self::Needles => &["window_length=256", "steps=4000", "steps_per_epoch=500"],
        }
    }

    fn data(self, stage: Stage, scale: Scale, data: &DataArguments) -> Result<DataConfig> {
        let pick = |beginning, main| match stage {
            Stage::Beginning => beginning,
            Stage::Main => main,
        };
        Ok(match self {
            Self::Pairs => DataConfig::AssociativeRecall {
                n_pairs: pick(16, scale.pick(16, 64, 256)),
                fewest_pairs: (stage == Stage::Main).then_some(16),
                n_questions: None,
                n_keys: pick(64, n_keys(scale)),
                n_values: 64,
            },
            Self::Passages | Self::PassagesBackwards => DataConfig::ReturningPassages {
                n_symbols: 128,
                shortest: pick(10, scale.pick(10, 40, 40)),
                longest: pick(20, scale.pick(20, 100, 100)),
                backwards: self == Self::PassagesBackwards,
            },
            Self::Needles => DataConfig::Needles {
                path: text(data, scale)?,
                n_needles: pick(scale.pick(2, 4, 4), scale.pick(1, 4, 16)),
            },
        })
    }

    /// The lengths at which a trained model is evaluated.
    pub(super) fn lengths(self, scale: Scale, config: &TrainConfig) -> Vec<EvaluationLength> {
        let trained = config.window_length;
        let most = scale.pick(2, 128, 32);
        let of = |length: usize, n| EvaluationLength {
            length,
            n,
            n_sequences: (scale.pick(512, 65_536, 1 << 20) / length as u64).clamp(2, 16),
        };
        let times = [1, 2, 4, 8, 16, 32, 128].into_iter();
        let lengths = times
            .filter(|times| *times <= most)
            .map(|times| times * trained);
        match config.data {
            DataConfig::AssociativeRecall { n_pairs, .. } => {
                let fewer = [n_pairs / 8, n_pairs / 4, n_pairs / 2].into_iter();
                let fewer = fewer.map(|n| of(trained, n));
                fewer
                    .chain(lengths.map(|length| of(length, n_pairs)))
                    .collect()
            }
            DataConfig::Needles { n_needles, .. } => {
                lengths.map(|length| of(length, n_needles)).collect()
            }
            _ => lengths.map(|length| of(length, 3)).collect(),
        }
    }

    /// Evaluation sequences, and the number of tokens at their end that hold all questions.
    ///
    /// # Errors
    /// A text that does not exist or is too short.
    pub(super) fn sequences(
        self,
        config: &TrainConfig,
        evaluated: EvaluationLength,
    ) -> Result<(Arc<dyn Sequences>, usize)> {
        let EvaluationLength { length, n, .. } = evaluated;
        Ok(match &config.data {
            DataConfig::AssociativeRecall {
                n_keys, n_values, ..
            } => {
                let end = (length / 4).min(512).max(2 * n);
                let task = AssociativeRecallConfig::new()
                    .with_seq_length(length)
                    .with_n_pairs(n)
                    .with_asked_in(Some(end))
                    .with_n_keys(*n_keys)
                    .with_n_values(*n_values)
                    .with_seed(EVAL_SEED);
                (Arc::new(task.init()?), end)
            }
            DataConfig::ReturningPassages {
                n_symbols,
                shortest,
                longest,
                backwards,
            } => {
                let task = ReturningPassagesConfig::new()
                    .with_seq_length(length)
                    .with_n_symbols(*n_symbols)
                    .with_shortest(*shortest)
                    .with_longest(*longest)
                    .with_backwards(*backwards)
                    .with_seed(EVAL_SEED);
                (Arc::new(task.init()?), (length / 2).min(1024))
            }
            DataConfig::Needles { path, .. } => {
                let end = 32 * n;
                let task = NeedlesConfig::new()
                    .with_seq_length(length)
                    .with_n_needles(n)
                    .with_asked_in(Some(end))
                    .with_seed(EVAL_SEED);
                (
                    Arc::new(task.init(&Splits::open(path.as_deref())?.valid)?),
                    end,
                )
            }
            _ => bail!("there is nothing to find in the data of this training"),
        })
    }
}

/// Keys of associative recall in the main stage.
fn n_keys(scale: Scale) -> usize {
    scale.pick(64, 512, 4096)
}

/// The text to plant sentences in; the sample if none is given.
fn text(data: &DataArguments, scale: Scale) -> Result<Option<PathBuf>> {
    match data.data(DataKind::Text, scale)? {
        Some(DataConfig::File(path) | DataConfig::Folder(path)) => Ok(Some(path)),
        Some(DataConfig::Sample) => Ok(None),
        _ => bail!("sentences are planted in a text or a folder of texts: give it by --text"),
    }
}
