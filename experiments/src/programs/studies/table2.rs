//! Table 2: accuracy on the duplication task, by rounds in training and in evaluation.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use burn::data::dataloader::DataLoader;
use clap::{Parser, ValueEnum};
use reformer_core::Pass;
use reformer_core::kernels::{ReformerBackend, TrainBackend};
use reformer_core::model::Loss;
use reformer_datasets::{DuplicationConfig, EvalLoaderConfig};
use reformer_train::{DataConfig, TrainConfig, load_model};

use super::About;
use crate::cli::device::{self, Job};
use crate::cli::overrides;
use crate::plot::figure::{Axis, Curve, Panel};
use crate::plot::{bits, step};
use crate::study::statistics::{between, mean};
use crate::study::{
    BaseTraining, DataArguments, DataKind, Report, SeedArguments, SetArguments, Study,
    StudyArguments, Table, Trained, Training, open_and_train,
};

const NAME: &str = "table2_duplication";
/// Seed of the evaluation sequences, which no training uses.
const EVAL_SEED: u64 = 2020;

/// Kinds of attention, in the order of the paper's columns.
const COLUMNS: [Attention; 5] = [
    Attention::Full,
    Attention::Lsh(8),
    Attention::Lsh(4),
    Attention::Lsh(2),
    Attention::Lsh(1),
];
/// Kinds of attention in the order of the paper's rows, with the paper's numbers.
const ROWS: [(Attention, [f64; 5]); 4] = [
    (Attention::Full, [100.0, 94.8, 92.5, 76.9, 52.5]),
    (Attention::Lsh(4), [0.8, 100.0, 99.9, 99.4, 91.9]),
    (Attention::Lsh(2), [0.8, 100.0, 99.9, 98.1, 86.8]),
    (Attention::Lsh(1), [0.8, 99.9, 99.6, 94.8, 77.9]),
];

/// One layer of four heads, 16 buckets, the same decay for all weights, as in the paper.
const BASE: BaseTraining = BaseTraining {
    data: DataKind::Duplication,
    all: &[
        "model.reformer.n_heads=4",
        "model.reformer.lsh.n_buckets={\"Count\":16}",
        "model.reformer.lsh.chunk_length=64",
    ],
    cpu: &["steps=6000", "steps_per_epoch=500", "batch_size=4"],
    paper: &[
        "window_length=1024",
        "steps=150000",
        "steps_per_epoch=1000",
        "batch_size=32",
        "model.reformer.d_model=256",
        "model.reformer.d_ff=256",
    ],
};

/// Kinds of position embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum PositionsName {
    /// A trained vector for each position, as in the paper: which keys to attend to has to be learnt.
    Learned,
    /// Like `learned`, but initialised with sinusoids, so that neighbouring positions have similar vectors.
    Sinusoidal,
    /// Axial, in rows of one token less than half a sequence, with weight decay on query projections: the right
    /// key is the nearest one before any training, so that all rows and columns come near 100 %.
    Axial,
}

impl PositionsName {
    /// The settings for sequences of a length, in the form of `--set`.
    pub(super) fn sets(self, length: usize) -> Vec<String> {
        let half = length / 2 - 1;
        match self {
            Self::Learned | Self::Sinusoidal => vec![
                format!(
                    r#"model.reformer.position={{"Learned":{{"max_length":{length},"std":1.0,"sinusoidal":{}}}}}"#,
                    self == Self::Sinusoidal
                ),
                r#"weight_decay=[{"paths":[],"min_rank":1,"rate":0.01}]"#.to_owned(),
            ],
            Self::Axial => vec![format!("model.reformer.position.Axial.shape=[3,{half}]")],
        }
    }
}

/// A kind of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attention {
    Full,
    Lsh(usize),
}

impl Attention {
    fn name(self) -> String {
        match self {
            Self::Full => "Full".to_owned(),
            Self::Lsh(rounds) => format!("LSH-{rounds}"),
        }
    }

    /// The settings, in the form of `--set`.
    fn sets(self) -> Vec<String> {
        match self {
            Self::Full => vec![r#"model.reformer.layers=["Full"]"#.to_owned()],
            Self::Lsh(rounds) => vec![
                r#"model.reformer.layers=["Lsh"]"#.to_owned(),
                format!("model.reformer.lsh.n_rounds={rounds}"),
            ],
        }
    }
}

/// Flags.
#[derive(Debug, Parser)]
#[command(version)]
pub(super) struct Arguments {
    #[command(flatten)]
    study: StudyArguments,
    #[command(flatten)]
    sets: SetArguments,
    #[command(flatten)]
    seeds: SeedArguments,
    /// Position embeddings
    #[arg(long, value_enum, default_value = "learned")]
    positions: PositionsName,
}

pub(super) fn main() -> ExitCode {
    About {
        name: NAME,
        about: "Train on 0w0w with full attention and with 4, 2 and 1 hash rounds, and evaluate each with \
                others",
        cpu: "An hour or two on two CPU cores",
        paper: "The paper's length of 1,024 and 150,000 steps; a day on a large GPU, below 2 GB",
        ..About::default()
    }
    .run(|arguments: Arguments| table(&arguments))
}

fn table(arguments: &Arguments) -> Result<()> {
    let scale = arguments.study.preset;
    let base = BASE.config(scale, &DataArguments::default())?;
    let base = base.context("the task needs no files")?;
    let length = base.window_length;
    let base = overrides::apply(base, &arguments.positions.sets(length))?;
    let base = overrides::apply_flags(base, &arguments.sets.sets)?;
    let seeds = arguments.seeds.of(base.seed, scale);
    let mut trainings = Vec::new();
    for (way, _) in ROWS {
        trainings.extend(Training::by_seed(
            &way.name().to_lowercase(),
            &format!("trained with {}", way.name()),
            &base,
            &way.sets(),
            seeds.clone(),
        )?);
    }
    let Some((study, trained)) = open_and_train(NAME, &arguments.study, &trainings)? else {
        return Ok(());
    };
    let mut cells: Cells = Default::default();
    let n_seeds = seeds.count();
    for (number, (training, trained)) in trainings.iter().zip(&trained).enumerate() {
        for (column, way) in COLUMNS.into_iter().enumerate() {
            let key = format!("{}-evaluated-{}", training.key, way.name().to_lowercase());
            let draws = study.remember(&key, || {
                println!("evaluating {} with {}", training.label, way.name());
                accuracies(trained, way, &study)
            })?;
            cells[number / n_seeds][column].extend(draws);
        }
    }
    let of_first_seed: Vec<&Trained> = trained.iter().step_by(n_seeds).collect();
    report(&study, &of_first_seed, &cells, length)
}

/// For each row and column of the table: percent right, for each seed and draw of rotations.
type Cells = [[Vec<f64>; 5]; 4];

/// Percentage of the second half's tokens predicted correctly, for each of several draws of rotations.
fn accuracies(trained: &Trained, way: Attention, study: &Study) -> Result<Vec<f64>> {
    let n_draws = match way {
        Attention::Full => 1,
        Attention::Lsh(_) => study.scale().pick(2, 8, 8),
    };
    let job = Evaluate {
        trained,
        way,
        n_draws,
        n_sequences: study.scale().pick(4, 64, 128),
    };
    device::run(study.device(), job)
}

struct Evaluate<'a> {
    trained: &'a Trained,
    way: Attention,
    n_draws: u64,
    n_sequences: usize,
}

impl Job<Vec<f64>> for Evaluate<'_> {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<Vec<f64>> {
        let mut accuracies = Vec::new();
        let (model, config) = load_model::<B::InnerBackend>(&self.trained.folder, &device)?;
        let model = model.into_lm()?;
        for draw in 0..self.n_draws {
            let mut model = model.clone();
            let mut other = overrides::apply(config.clone(), &self.way.sets())?;
            other.model.reformer_mut().hash_seed = draw;
            model.reformer = model
                .reformer
                .with_attention(other.model.reformer(), &device)?;
            let [mut right, mut of] = [0.0; 2];
            for batch in loader::<B::InnerBackend>(&other, self.n_sequences, &device)?.iter() {
                let loss = model.loss((batch.tokens, batch.targets), &Pass::eval());
                let counts = [loss.n_correct, loss.n_targets].map(|count| {
                    let count = count.into_data().iter::<f64>().next();
                    count.context("a count is one number")
                });
                let [n_right, n] = counts;
                right += n_right?;
                of += n?;
            }
            accuracies.push(100.0 * right / of);
        }
        Ok(accuracies)
    }
}

/// Evaluation sequences, which no training has seen.
fn loader<B: ReformerBackend>(
    config: &TrainConfig,
    n_sequences: usize,
    device: &B::Device,
) -> Result<reformer_datasets::EvalLoader<B>> {
    let DataConfig::Duplication { n_symbols } = config.data else {
        anyhow::bail!("the training is about other data");
    };
    let task = DuplicationConfig::new()
        .with_seq_length(config.window_length)
        .with_n_symbols(n_symbols)
        .with_seed(EVAL_SEED)
        .init()?;
    let loader = EvalLoaderConfig::new(config.window_length, config.batch_size)
        .with_max_windows(Some(n_sequences));
    Ok(loader.init_sequences(Arc::new(task), device)?)
}

fn report(study: &Study, trained: &[&Trained], cells: &Cells, length: usize) -> Result<()> {
    let mut columns = vec!["trained".to_owned()];
    for way in COLUMNS {
        columns.push(format!("{}: paper", way.name()));
        columns.push("ours".to_owned());
        columns.push("range".to_owned());
    }
    let mut table = Table::new(columns);
    for ((way, paper), ours) in ROWS.into_iter().zip(cells) {
        let mut row = vec![way.name()];
        for (paper, ours) in paper.into_iter().zip(ours) {
            row.push(format!("{paper:.1}"));
            row.push(format!("{:.1}", mean(ours)));
            row.push(between(ours, 1));
        }
        table.row(row);
    }
    Report {
        title: "Table 2: accuracy on the duplication task",
        notes: vec![format!(
            "Percent of the second half's tokens, on sequences of {length} tokens that were not trained \
             on: means and ranges over seeds and over draws of the rotations that are evaluated with. \
             Rows: attention in training; columns: in evaluation. The paper trains for 150,000 steps at a \
             length of 1,024."
        )],
        table,
        panels: panels(trained, cells),
        values: cells,
    }
    .write(study)
}

fn panels(trained: &[&Trained], cells: &Cells) -> Vec<Panel> {
    let losses = ROWS.iter().zip(trained).map(|((way, _), trained)| {
        Curve::new(
            format!("trained with {}", way.name()),
            bits(&trained.rows, "valid", step),
        )
    });
    let accuracies = ROWS.iter().zip(cells).flat_map(|((way, paper), ours)| {
        let ours = &ours.each_ref().map(|cell| mean(cell));
        // From few rounds to many; exact attention has no number of rounds.
        let curve = |cells: &[f64; 5]| {
            let rounds = COLUMNS.iter().zip(cells);
            let mut points: Vec<(f64, f64)> = rounds
                .filter_map(|(way, cell)| match way {
                    Attention::Lsh(rounds) => Some((*rounds as f64, *cell)),
                    Attention::Full => None,
                })
                .collect();
            points.reverse();
            points
        };
        [
            Curve::new(format!("{}, ours", way.name()), curve(ours)),
            Curve::new(format!("{}, paper", way.name()), curve(paper)).dashed(),
        ]
    });
    vec![
        Panel {
            title: "held-out loss".to_owned(),
            x: Axis::linear("step"),
            y: Axis::linear("bits per token"),
            curves: losses.collect(),
        },
        Panel {
            title: "accuracy over rounds in evaluation".to_owned(),
            x: Axis::log("rounds"),
            y: Axis::linear("% right"),
            curves: accuracies.collect(),
        },
    ]
}
