//! Measures how well models find content: tasks that only a search through the context can solve.

mod decode;
mod report;
mod task;

use std::ops::Range;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use reformer_train::TrainConfig;
use serde::{Deserialize, Serialize};

use self::decode::{Decoded, decode};
use self::report::report;
use self::task::{Stage, Task};
use super::About;
use crate::cli::overrides;
use crate::study::{Training, open_and_train};

/// Flags.
#[derive(Debug, Parser)]
#[command(version)]
pub(super) struct Arguments {
    /// Task
    #[arg(long, value_enum, default_value = "pairs")]
    task: Task,
    /// Kinds of the second layer to train [default: all]
    #[arg(long, alias = "ways", value_name = "NAMES", value_delimiter = ',', value_parser = VARIANTS.map(|variant| variant.key))]
    variants: Vec<String>,
    #[command(flatten)]
    study: super::Arguments,
}

/// A kind of the second layer, which has to find the content; the first layer is local.
#[derive(Clone, Copy)]
struct LayerVariant {
    key: &'static str,
    label: &'static str,
    sets: &'static [&'static str],
    /// Further changes in the main stage.
    main: &'static [&'static str],
}

/// In the main stage hashed queries have a fixed length: the shorter they are, the smaller the angle to the
/// wanted key has to become, and hashing finds keys at small angles. Among 200 visible keys, the wanted one
/// has 60 % of the weight at an angle of 0.
const ONE_LENGTH: &[&str] = &["model.reformer.query_length=6.0"];

impl LayerVariant {
    /// The first stage, from each seed.
    fn beginnings(&self, base: &TrainConfig, seeds: &Range<u64>) -> Result<Vec<Training>> {
        let key = format!("beginning-{}", self.key);
        let label = format!("{}, to begin with", self.label);
        let sets: Vec<String> = self.sets.iter().map(|&set| set.to_owned()).collect();
        Training::by_seed(&key, &label, base, &sets, seeds.clone())
    }

    /// The second stage.
    fn trainings(&self, base: &TrainConfig, seeds: &Range<u64>) -> Result<Vec<Training>> {
        let sets = self.sets.iter().chain(self.main);
        let sets: Vec<String> = sets.map(|&set| set.to_owned()).collect();
        Training::by_seed(self.key, self.label, base, &sets, seeds.clone())
    }
}

/// All kinds of the second layer. Hashing is the paper's, without a local round.
static VARIANTS: [LayerVariant; 8] = [
    LayerVariant {
        key: "full",
        label: "full attention",
        sets: &[r#"model.reformer.layers=["Local","Full"]"#],
        main: &[],
    },
    LayerVariant {
        key: "separate",
        label: "full attention, keys of their own",
        sets: &[
            r#"model.reformer.layers=["Local","Full"]"#,
            "model.reformer.full_share_qk=false",
        ],
        main: &[],
    },
    LayerVariant {
        key: "lsh-1",
        label: "LSH, 1 round",
        sets: &["model.reformer.lsh.n_rounds=1"],
        main: ONE_LENGTH,
    },
    LayerVariant {
        key: "lsh-2",
        label: "LSH, 2 rounds",
        sets: &["model.reformer.lsh.n_rounds=2"],
        main: ONE_LENGTH,
    },
    LayerVariant {
        key: "lsh-4",
        label: "LSH, 4 rounds",
        sets: &["model.reformer.lsh.n_rounds=4"],
        main: ONE_LENGTH,
    },
    LayerVariant {
        key: "lsh-8",
        label: "LSH, 8 rounds",
        sets: &["model.reformer.lsh.n_rounds=8"],
        main: ONE_LENGTH,
    },
    LayerVariant {
        key: "local",
        label: "local alone, 32 to 64 keys",
        sets: &[
            r#"model.reformer.layers=["Local"]"#,
            "model.reformer.local.chunk_length=32",
            "model.reformer.local.before=1",
        ],
        main: &[],
    },
    LayerVariant {
        key: "window",
        label: "local alone, 128 to 256 keys",
        sets: &[
            r#"model.reformer.layers=["Local"]"#,
            "model.reformer.local.chunk_length=128",
            "model.reformer.local.before=1",
        ],
        main: &[],
    },
];

/// Results of a training.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LayerResult {
    #[serde(rename = "way")]
    variant: String,
    seed: u64,
    /// Percent right in the last evaluation, at the length of training, with questions anywhere.
    trained: f64,
    /// Seconds per step over the whole training, with its share of evaluations.
    step_seconds: f64,
    steps: usize,
    /// Results with the decoder's cache, with questions at the end.
    decoded: Vec<Decoded>,
}

pub(super) fn main() -> ExitCode {
    About {
        name: "finding",
        about: "Train on retrieval tasks with full attention, hashing and windows, and evaluate at up to 128 \
                times the length",
        flags: " --task pairs",
        cpu: "An hour on two CPU cores",
        paper: "Longer sequences and more pairs, an hour on a large GPU",
        notes: "The study of a task is in OUT/finding_TASK/PRESET.",
    }
    .run(|arguments: Arguments| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let super::Arguments {
        study,
        data,
        sets,
        seeds,
    } = &arguments.study;
    let (task, scale) = (arguments.task, study.preset);
    let stage = |stage| -> Result<TrainConfig> {
        let config = task.config(stage, scale, data)?;
        overrides::apply_flags(config, &sets.sets)
    };
    let (beginning, base) = (stage(Stage::Beginning)?, stage(Stage::Main)?);
    let seeds = seeds.of(base.seed, scale);
    let all = arguments.variants.is_empty();
    let is_named =
        |variant: &&LayerVariant| all || arguments.variants.iter().any(|name| name == variant.key);
    let variants = VARIANTS.iter().filter(is_named);
    let (mut trainings, mut main) = (Vec::new(), Vec::new());
    for variant in variants {
        let beginnings = variant.beginnings(&beginning, &seeds)?;
        let of_variant = variant.trainings(&base, &seeds)?;
        for (beginning, mut training) in beginnings.iter().zip(of_variant) {
            training.start_from = Some(beginning.key.clone());
            main.push((variant, training));
        }
        trainings.extend(beginnings);
    }
    let n_beginnings = trainings.len();
    trainings.extend(main.iter().map(|(_, training)| training.clone()));
    let Some((study, trained)) = open_and_train(task.study(), study, &trainings)? else {
        return Ok(());
    };
    let mut results = Vec::new();
    let trained = &trained[n_beginnings..];
    for ((variant, training), trained) in main.iter().zip(trained) {
        let mut decoded = Vec::new();
        for evaluated in task.lengths(scale, &training.config) {
            let key = format!("{}-{}", training.key, evaluated.key());
            decoded.push(study.remember(&key, || {
                println!("{}: {}", training.label, evaluated.label());
                decode(&study, task, trained, evaluated)
            })?);
        }
        results.push(LayerResult::new(variant.label, training, trained, decoded)?);
    }
    report(&study, task, &results)
}
