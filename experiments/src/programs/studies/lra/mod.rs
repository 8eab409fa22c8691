//! Trains classifiers on a task of the Long Range Arena, with full, local and LSH attention.

mod baselines;
mod report;
mod settings;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use reformer_core::kernels::TrainBackend;
use reformer_datasets::long_range::LongRangeTask;
use reformer_train::Evaluation;
use reformer_train::metrics::Quantity;
use serde::{Deserialize, Serialize};

use self::baselines::{Baseline, baselines};
use self::report::report;
use super::About;
use crate::cli::absolute;
use crate::cli::device::{self, Job};
use crate::cli::named::named;
use crate::cli::overrides;
use crate::study::statistics::mean;
use crate::study::{
    SeedArguments, SetArguments, StudyArguments, Trained, Training, open_and_train,
};

/// Flags.
#[derive(Debug, Parser)]
#[command(version)]
pub(super) struct Arguments {
    /// Task
    #[arg(long, value_parser = named::<LongRangeTask>(), default_value = "listops")]
    task: LongRangeTask,
    /// Folder of the benchmark's files for it, see train_classifier [default: lists are generated]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    #[command(flatten)]
    study: StudyArguments,
    #[command(flatten)]
    sets: SetArguments,
    #[command(flatten)]
    seeds: SeedArguments,
}

/// Trained models: key, name, and changes to the base. All layers are of the kind that is named; LSH layers are
/// the library's, with a local round in addition to the hash rounds. Differences are to the first model.
const MODELS: [(&str, &str, &[&str]); 5] = [
    (
        "full",
        "full attention",
        &[r#"model.reformer.layers=["Full"]"#],
    ),
    (
        "local",
        "local attention",
        &[r#"model.reformer.layers=["Local"]"#],
    ),
    (
        "lsh-1",
        "LSH, 1 round",
        &[
            r#"model.reformer.layers=["Lsh"]"#,
            "model.reformer.lsh.n_rounds=1",
        ],
    ),
    (
        "lsh-2",
        "LSH, 2 rounds",
        &[
            r#"model.reformer.layers=["Lsh"]"#,
            "model.reformer.lsh.n_rounds=2",
        ],
    ),
    (
        "lsh-4",
        "LSH, 4 rounds",
        &[
            r#"model.reformer.layers=["Lsh"]"#,
            "model.reformer.lsh.n_rounds=4",
        ],
    ),
];

/// Results of a training.
#[derive(Debug, Clone, Serialize)]
struct ModelResult {
    model: &'static str,
    seed: u64,
    #[serde(flatten)]
    tested: Tested,
    seconds_per_step: f64,
}

/// Results on the part of the data for the test.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Tested {
    /// Rows with the right class, in percent.
    accuracy: f64,
    /// Bits per label.
    bits: f64,
    n_rows: usize,
}

/// All numbers of the study.
#[derive(Debug, Serialize)]
struct Values {
    #[serde(rename = "outcomes")]
    results: Vec<ModelResult>,
    baselines: Vec<Baseline>,
}

/// Name of the study of a task.
fn name(task: LongRangeTask) -> &'static str {
    match task {
        LongRangeTask::ListOps => "lra_listops",
        LongRangeTask::Text => "lra_text",
        LongRangeTask::Retrieval => "lra_retrieval",
        LongRangeTask::Image => "lra_image",
        LongRangeTask::Pathfinder => "lra_pathfinder",
    }
}

pub(super) fn main() -> ExitCode {
    About {
        name: "lra",
        about: "Train classifiers on a task of the Long Range Arena with full, local and LSH attention",
        cpu: "Lists of up to 128 symbols",
        paper: "The benchmark's lengths and model sizes",
        notes: "The study of a task is in OUT/lra_TASK/PRESET. Tasks with files:\n    \
                reformer study lra --task image --data cifar-10-batches-bin",
        ..About::default()
    }
    .run(|arguments: Arguments| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let (task, scale) = (arguments.task, arguments.study.preset);
    let path = arguments.data.as_deref().map(absolute).transpose()?;
    let base = settings::config(task, path, scale)?;
    let base = overrides::apply_flags(base, &arguments.sets.sets)?;
    let seeds = arguments.seeds.of(base.seed, scale);
    let mut trainings = Vec::new();
    for (key, label, sets) in MODELS {
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        trainings.extend(Training::by_seed(key, label, &base, &sets, seeds.clone())?);
    }
    let Some((study, trained)) = open_and_train(name(task), &arguments.study, &trainings)? else {
        return Ok(());
    };
    let mut results = Vec::new();
    let models = MODELS
        .iter()
        .flat_map(|(model, ..)| seeds.clone().map(move |_| model));
    for ((training, trained), model) in trainings.iter().zip(&trained).zip(models) {
        let tested = study.remember(&format!("test-{}", training.key), || {
            println!("testing {}", training.label);
            device::run(study.device(), Test(trained))
        })?;
        results.push(ModelResult {
            model,
            seed: training.config.seed,
            tested,
            seconds_per_step: seconds_per_step(trained, training)?,
        });
    }
    let baselines = study.remember("baselines", || {
        println!("counting");
        baselines(&base)
    })?;
    let values = Values { results, baselines };
    report(&study, &base, task, &trained, &values, seeds.count())
}

/// Seconds of a training step, the mean of what was measured between evaluations.
fn seconds_per_step(trained: &Trained, training: &Training) -> Result<f64> {
    let rows = trained.rows.iter().filter(|row| row.split == "train");
    // A row of a batch has one label.
    let labels: Vec<f64> = rows
        .filter_map(|row| row.get(Quantity::TokensPerSecond))
        .collect();
    let rate = mean(&labels);
    let rate = Some(rate).filter(|rate| *rate > 0.0);
    let rate = rate.with_context(|| format!("the steps of `{}` were not timed", training.key))?;
    Ok(training.config.batch_size as f64 / rate)
}

/// Measures a model on the part for the test.
struct Test<'a>(&'a Trained);

impl Job<Tested> for Test<'_> {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<Tested> {
        let evaluation = Evaluation::<B::InnerBackend>::open_test(&self.0.folder, &device)?;
        let measured = evaluation.measure(&device, |_, _| ControlFlow::Continue(()))?;
        Ok(Tested {
            accuracy: measured.accuracy(),
            bits: measured.bits(),
            n_rows: measured.n_targets,
        })
    }
}
