//! What models find that have to: tasks that nothing but a search through what was read can solve.

mod decode;
mod report;
mod task;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use reformer_train::TrainConfig;
use serde::{Deserialize, Serialize};

use self::decode::{Decoded, decode};
use self::report::report;
use self::task::{Stage, Task};
use super::{help, parse};
use crate::allocator::keep_freed_memory;
use crate::cli;
use crate::overrides;
use crate::study::{Training, open_and_train};

const NAME: &str = "finding";

/// Flags.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// What is to be found
    #[arg(long, value_enum, default_value = "pairs")]
    task: Task,
    #[command(flatten)]
    study: super::Arguments,
}

/// One kind of the layer that has to find, above a local one.
struct Way {
    key: &'static str,
    label: &'static str,
    sets: &'static [&'static str],
}

/// All kinds. Hashing as in the paper, without the neighbours in a round of their own.
const WAYS: [Way; 8] = [
    Way {
        key: "full",
        label: "full attention",
        sets: &[r#"model.reformer.layers=["Local","Full"]"#],
    },
    Way {
        key: "separate",
        label: "full attention, keys of their own",
        sets: &[
            r#"model.reformer.layers=["Local","Full"]"#,
            "model.reformer.full_share_qk=false",
        ],
    },
    Way {
        key: "lsh-1",
        label: "LSH, 1 round",
        sets: &["model.reformer.lsh.n_rounds=1"],
    },
    Way {
        key: "lsh-2",
        label: "LSH, 2 rounds",
        sets: &["model.reformer.lsh.n_rounds=2"],
    },
    Way {
        key: "lsh-4",
        label: "LSH, 4 rounds",
        sets: &["model.reformer.lsh.n_rounds=4"],
    },
    Way {
        key: "lsh-8",
        label: "LSH, 8 rounds",
        sets: &["model.reformer.lsh.n_rounds=8"],
    },
    Way {
        key: "local",
        label: "local alone, 32 to 64 keys",
        sets: &[
            r#"model.reformer.layers=["Local"]"#,
            "model.reformer.local.chunk_length=32",
        ],
    },
    Way {
        key: "window",
        label: "local alone, 128 to 256 keys",
        sets: &[
            r#"model.reformer.layers=["Local"]"#,
            "model.reformer.local.chunk_length=128",
        ],
    },
];

/// What came out of a training.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Outcome {
    way: String,
    seed: u64,
    /// Of the last evaluation: percent right, at the length of training, wherever questions stand.
    trained: f64,
    /// Of the whole training: a step, with its share of evaluations.
    step_seconds: f64,
    steps: usize,
    /// With the decoder's cache, questions at the end.
    decoded: Vec<Decoded>,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let about = "Train to find what was read before, with full attention, hashing and windows, and ask at \
         up to 128 times the length";
    let help = help(
        NAME,
        " --task pairs",
        "An hour on two CPU cores",
        "Longer sequences and more pairs, an hour on a large GPU",
    );
    let arguments: Arguments = parse(NAME, about, &help);
    keep_freed_memory();
    cli::main(|| run(&arguments))
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
        overrides::apply(config, &sets.sets)
    };
    let (beginning, base) = (stage(Stage::Beginning)?, stage(Stage::Main)?);
    let seeds = seeds.of(base.seed, scale);
    let (mut trainings, mut main) = (Vec::new(), Vec::new());
    for Way { key, label, sets } in &WAYS {
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        let of_way = |key: &str, label: &str, base| {
            Training::by_seed(key, label, base, &sets, seeds.clone())
        };
        let first = of_way(
            &format!("beginning-{key}"),
            &format!("{label}, to begin with"),
            &beginning,
        )?;
        let mut second = of_way(key, label, &base)?;
        for (first, second) in first.iter().zip(&mut second) {
            second.start_from = Some(first.key.clone());
        }
        trainings.extend(first);
        main.extend(second);
    }
    let n_beginnings = trainings.len();
    trainings.extend(main.iter().cloned());
    let Some((study, trained)) = open_and_train(task.study(), study, &trainings)? else {
        return Ok(());
    };
    let mut outcomes = Vec::new();
    let trained = &trained[n_beginnings..];
    for (number, (training, trained)) in main.iter().zip(trained).enumerate() {
        let mut decoded = Vec::new();
        for measurement in task.measurements(scale, &training.config) {
            let key = format!("{}-{}", training.key, measurement.key());
            decoded.push(study.remember(&key, || {
                println!("{}: {}", training.label, measurement.label());
                decode(&study, task, trained, measurement)
            })?);
        }
        outcomes.push(Outcome::new(
            WAYS[number / seeds.clone().count()].label,
            training,
            trained,
            decoded,
        )?);
    }
    report(&study, task, &outcomes)
}
