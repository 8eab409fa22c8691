//! Comparisons of variants of a training, the form of most figures and all ablations.

use std::path::Path;

use anyhow::{Context, Result, bail};
use reformer_core::kernels::TrainBackend;
use reformer_train::metrics::Quantity;
use reformer_train::{Run, TrainConfig};
use serde::Serialize;

use super::counting::{self, Counting};
use super::statistics::{between, margin, mean};
use super::{
    BaseTraining, DataArguments, DataKind, Report, SeedArguments, SetArguments, Study,
    StudyArguments, Table, Trained, Training, open_and_train_as,
};
use crate::cli::device::{self, Job};
use crate::cli::overrides;
use crate::plot::figure::{Axis, Curve, Panel};
use crate::plot::{bits, step};

/// A study that trains variants on some data.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// Name of its program.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// The claim of the paper, or of the peers, that it tests.
    pub(crate) claim: &'static str,
    /// Contests, each a panel of the figure.
    pub(crate) contests: Vec<Contest>,
}

/// Variants that are trained on the same data.
#[derive(Debug)]
pub(crate) struct Contest {
    /// Prefix of the names of its folders.
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    /// The configuration that variants change.
    pub(crate) base: BaseTraining,
    /// Variants; the others are compared with the first one.
    pub(crate) variants: Vec<Variant>,
}

/// A variant of a training.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    /// Part of the name of its folder.
    pub(crate) key: String,
    /// Its label in tables and figures.
    pub(crate) label: String,
    /// Changes to the base, in the form of `--set`.
    pub(crate) sets: Vec<String>,
    /// The paper's number, if there is one.
    pub(crate) paper: Option<&'static str>,
}

impl Variant {
    /// A variant without a number in the paper.
    pub(crate) fn new(key: impl Into<String>, label: impl Into<String>, sets: &[&str]) -> Self {
        Self {
            key: key.into(),
            label: label.into(),
            sets: sets.iter().map(|set| (*set).to_owned()).collect(),
            paper: None,
        }
    }
}

/// Results of a variant.
#[derive(Debug, Clone, Serialize)]
struct VariantResult {
    contest: &'static str,
    variant: String,
    /// Held-out bits in the last evaluation, for each seed.
    bits: Vec<f64>,
    /// Differences to the first variant from the same seeds.
    differences: Vec<f64>,
    /// Share of targets predicted correctly, in percent: mean over seeds.
    accuracy: f64,
    /// Seconds of the whole training, with its evaluations: mean over seeds.
    seconds: f64,
    steps: usize,
}

/// Result of a baseline that counts tokens, on the data of a contest.
#[derive(Debug, Clone, Serialize)]
struct Counted {
    contest: &'static str,
    table: &'static str,
    bits: f64,
}

/// All numbers of a comparison.
#[derive(Debug, Serialize)]
struct Values {
    outcomes: Vec<VariantResult>,
    counted: Vec<Counted>,
}

/// Trains all variants of all contests that have data, from each seed, and writes the report.
pub(crate) fn run_comparison(
    comparison: &Comparison,
    arguments: &StudyArguments,
    data: &DataArguments,
    sets: &SetArguments,
    seeds: &SeedArguments,
) -> Result<()> {
    let mut trainings = Vec::new();
    let mut contests = Vec::new();
    let mut left_out = Vec::new();
    for contest in &comparison.contests {
        match contest.base.config(arguments.preset, data)? {
            Some(config) => {
                let config = overrides::apply_flags(config, &sets.sets)?;
                let seeds = seeds.of(config.seed, arguments.preset);
                for variant in &contest.variants {
                    trainings.extend(Training::by_seed(
                        &format!("{}-{}", contest.key, variant.key),
                        &format!("{}: {}", contest.title, variant.label),
                        &config,
                        &variant.sets,
                        seeds.clone(),
                    )?);
                }
                contests.push((contest, seeds.count()));
            }
            None => left_out.push(contest.title),
        }
    }
    for title in &left_out {
        println!("Left out, since no data is given for it (see --help): {title}");
    }
    if trainings.is_empty() {
        bail!("there is no data for this study: give --images");
    }
    let configs: Vec<(&str, &TrainConfig)> = trainings
        .iter()
        .map(|training| (training.key.as_str(), &training.config))
        .collect();
    let Some((study, trained)) =
        open_and_train_as(comparison.name, arguments, &configs, &trainings)?
    else {
        return Ok(());
    };
    report(comparison, &contests, &trained, &study)
}

fn report(
    comparison: &Comparison,
    contests: &[(&Contest, usize)],
    trained: &[Trained],
    study: &Study,
) -> Result<()> {
    let mut values = Values {
        outcomes: Vec::new(),
        counted: Vec::new(),
    };
    let mut panels = Vec::new();
    let mut table = Table::new([
        "data",
        "variant",
        "paper",
        "bits",
        "range",
        "difference",
        "95 %",
        "% right",
        "seconds",
    ]);
    let mut rest = trained;
    for (contest, n_seeds) in contests {
        let (own, others) = rest.split_at(contest.variants.len() * n_seeds);
        rest = others;
        for counted in counted(contest, own, study)? {
            table.row([
                contest.title,
                counted.table,
                "-",
                &format!("{:.3}", counted.bits),
                "-",
                "-",
                "-",
                "-",
                "-",
            ]);
            values.counted.push(counted);
        }
        let mut reference = None;
        for (variant, trained) in contest.variants.iter().zip(own.chunks(*n_seeds)) {
            let outcome = outcome(contest, variant, trained, &mut reference)?;
            table.row(row(contest, variant, &outcome));
            values.outcomes.push(outcome);
        }
        panels.push(panel(contest, own, *n_seeds));
    }
    Report {
        title: comparison.title,
        notes: vec![
            comparison.claim.to_owned(),
            format!(
                "Bits are those of a token of held-out data after the last step ({}), the mean over \
                 {} and their range; differences are to the first variant on the same data from the \
                 same seeds, with the 95 % interval of their mean (Student's t). Counts are tables of \
                 which token follows which, made from the batches that the models were trained on.",
                steps(&values.outcomes),
                seeds(&values.outcomes),
            ),
        ],
        table,
        panels,
        values: &values,
    }
    .write(study)
}

fn row(contest: &Contest, variant: &Variant, outcome: &VariantResult) -> [String; 9] {
    [
        contest.title.to_owned(),
        variant.label.clone(),
        variant.paper.unwrap_or("-").to_owned(),
        format!("{:.3}", mean(&outcome.bits)),
        between(&outcome.bits, 3),
        format!("{:+.3}", mean(&outcome.differences)),
        margin(&outcome.differences),
        format!("{:.2}", outcome.accuracy),
        format!("{:.0}", outcome.seconds),
    ]
}

/// Baselines that count tokens, on the data of a contest.
fn counted(contest: &Contest, trained: &[Trained], study: &Study) -> Result<Vec<Counted>> {
    let folder = &trained.first().context("a variant at least")?.folder;
    let tables = counting::tables(contest.base.data).iter();
    let counted = tables.enumerate().map(|(number, counting)| {
        let bits = study.remember(&format!("{}-counted-{number}", contest.key), || {
            device::run(study.device(), Count { counting, folder })
        })?;
        Ok(Counted {
            contest: contest.key,
            table: counting.label,
            bits,
        })
    });
    counted.collect()
}

struct Count<'a> {
    counting: &'a Counting,
    folder: &'a Path,
}

impl Job<f64> for Count<'_> {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<f64> {
        let run = Run::resume(self.folder)?;
        Ok(self.counting.bits::<B>(&run, &device)?)
    }
}

/// The number of steps of each contest, as text.
fn steps(outcomes: &[VariantResult]) -> String {
    let mut steps: Vec<String> = outcomes
        .iter()
        .map(|outcome| format!("{}: {}", outcome.contest, outcome.steps))
        .collect();
    steps.dedup();
    steps.join(", ")
}

/// The number of seeds of each variant, as text.
fn seeds(outcomes: &[VariantResult]) -> String {
    match outcomes.first().map_or(0, |outcome| outcome.bits.len()) {
        1 => "one seed".to_owned(),
        n => format!("{n} seeds"),
    }
}

/// Results of a variant over its seeds. The first variant is the reference.
fn outcome(
    contest: &Contest,
    variant: &Variant,
    trained: &[Trained],
    reference: &mut Option<Vec<f64>>,
) -> Result<VariantResult> {
    let mut last = Vec::new();
    for trained in trained {
        let row = trained.rows.iter().rfind(|row| row.split == "valid");
        last.push(row.with_context(|| format!("`{}` was never evaluated", variant.key))?);
    }
    let get = |quantity| -> Vec<f64> {
        let values = last.iter().map(|row| row.get(quantity).unwrap_or(f64::NAN));
        values.collect()
    };
    let bits = get(Quantity::Bits);
    let reference = reference.get_or_insert_with(|| bits.clone());
    let differences = bits
        .iter()
        .zip(reference.iter())
        .map(|(own, first)| own - first);
    Ok(VariantResult {
        contest: contest.key,
        variant: variant.label.clone(),
        differences: differences.collect(),
        accuracy: mean(&get(Quantity::Accuracy)),
        seconds: mean(&get(Quantity::Seconds)),
        steps: last.first().map_or(0, |row| row.step),
        bits,
    })
}

/// Validation curves over steps, as in the paper, from the first seed.
fn panel(contest: &Contest, trained: &[Trained], n_seeds: usize) -> Panel {
    let token = match contest.base.data {
        DataKind::Text => "byte",
        DataKind::Images => "dim",
        DataKind::Duplication | DataKind::Passages | DataKind::Pairs => "token",
    };
    let curves = contest.variants.iter().zip(trained.chunks(n_seeds));
    Panel {
        title: contest.title.to_owned(),
        x: Axis::linear("step"),
        y: Axis::linear(format!("bits per {token}")),
        curves: curves
            .map(|(variant, trained)| {
                Curve::new(&variant.label, bits(&trained[0].rows, "valid", step))
            })
            .collect(),
    }
}
