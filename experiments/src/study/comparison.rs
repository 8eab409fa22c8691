//! Comparisons of variants of a training: what most figures and all ablations are.

use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::tensor::backend::AutodiffBackend;
use reformer_core::kernels::ReformerBackend;
use reformer_train::{Quantity, Run, TrainConfig};
use serde::Serialize;

use super::counting::{self, Counting};
use super::statistics::{between, margin, mean};
use super::{
    Base, DataArguments, DataKind, Report, SeedArguments, SetArguments, Study, StudyArguments,
    Table, Trained, Training, open_and_train_as,
};
use crate::device::{self, Job};
use crate::figure::{Axis, Curve, Panel};
use crate::overrides;
use crate::plot::bits;

/// A study that trains variants on some data.
#[derive(Debug)]
pub struct Comparison {
    /// Its program.
    pub name: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// What the paper, or the peers, say about it.
    pub claim: &'static str,
    /// Each is a panel of the figure.
    pub contests: Vec<Contest>,
}

/// Variants that are trained on the same data.
#[derive(Debug)]
pub struct Contest {
    /// Its folder.
    pub key: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What the variants are changes of.
    pub base: Base,
    /// The first one is what the others are compared with.
    pub variants: Vec<Variant>,
}

/// One of several ways.
#[derive(Debug, Clone)]
pub struct Variant {
    /// Its folder.
    pub key: String,
    /// Its name for people.
    pub label: String,
    /// Changes to the base, as of `--set`.
    pub sets: Vec<String>,
    /// What the paper has for it, if it has a number.
    pub paper: Option<&'static str>,
}

impl Variant {
    /// A variant that the paper has no number for.
    pub fn new(key: impl Into<String>, label: impl Into<String>, sets: &[&str]) -> Self {
        Self {
            key: key.into(),
            label: label.into(),
            sets: sets.iter().map(|set| (*set).to_owned()).collect(),
            paper: None,
        }
    }
}

/// What came out of a variant.
#[derive(Debug, Clone, Serialize)]
struct Outcome {
    contest: &'static str,
    variant: String,
    /// Of the last evaluation, from each seed.
    bits: Vec<f64>,
    /// Those of the first variant from the same seeds taken off.
    differences: Vec<f64>,
    /// Share of targets predicted, in percent: mean over seeds.
    accuracy: f64,
    /// Of the whole training, with its evaluations: mean over seeds.
    seconds: f64,
    steps: usize,
}

/// What counting gives on the data of a contest.
#[derive(Debug, Clone, Serialize)]
struct Counted {
    contest: &'static str,
    table: &'static str,
    bits: f64,
}

/// All numbers of a comparison.
#[derive(Debug, Serialize)]
struct Values {
    outcomes: Vec<Outcome>,
    counted: Vec<Counted>,
}

/// Trains all variants of all contests that there is data for from each seed, and writes the report.
///
/// # Errors
/// Whatever keeps one of them from being trained.
pub fn compare(
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
                let config = overrides::apply(config, &sets.sets)?;
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

fn row(contest: &Contest, variant: &Variant, outcome: &Outcome) -> [String; 9] {
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

/// What counting gives on the data of a contest.
fn counted(contest: &Contest, trained: &[Trained], study: &Study) -> Result<Vec<Counted>> {
    let folder = &trained.first().context("a variant at least")?.folder;
    let tables = counting::tables(contest.base.data).iter();
    let counted = tables.enumerate().map(|(number, counting)| {
        let bits = study.remember(&format!("{}-counted-{number}", contest.key), || {
            let mut bits = f64::NAN;
            let bits_of = &mut bits;
            let job = Count {
                counting,
                folder,
                bits: bits_of,
            };
            device::run(study.device(), job)?;
            Ok(bits)
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
    bits: &'a mut f64,
}

impl Job for Count<'_> {
    fn run<B>(self, device: B::Device) -> Result<()>
    where
        B: AutodiffBackend + ReformerBackend,
        B::InnerBackend: ReformerBackend,
    {
        let run = Run::resume(self.folder)?;
        *self.bits = self.counting.bits::<B>(&run, &device)?;
        Ok(())
    }
}

/// How many steps each contest had.
fn steps(outcomes: &[Outcome]) -> String {
    let mut steps: Vec<String> = outcomes
        .iter()
        .map(|outcome| format!("{}: {}", outcome.contest, outcome.steps))
        .collect();
    steps.dedup();
    steps.join(", ")
}

/// How many seeds each variant had.
fn seeds(outcomes: &[Outcome]) -> String {
    match outcomes.first().map_or(0, |outcome| outcome.bits.len()) {
        1 => "one seed".to_owned(),
        n => format!("{n} seeds"),
    }
}

/// What came out of a variant: of the training from each seed. The first one is the reference.
fn outcome(
    contest: &Contest,
    variant: &Variant,
    trained: &[Trained],
    reference: &mut Option<Vec<f64>>,
) -> Result<Outcome> {
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
    Ok(Outcome {
        contest: contest.key,
        variant: variant.label.clone(),
        differences: differences.collect(),
        accuracy: mean(&get(Quantity::Accuracy)),
        seconds: mean(&get(Quantity::Seconds)),
        steps: last.first().map_or(0, |row| row.step),
        bits,
    })
}

/// Validation over steps, as the paper's curves are: those of the first seed.
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
            .map(|(variant, trained)| Curve::new(&variant.label, bits(&trained[0].rows, "valid")))
            .collect(),
    }
}
