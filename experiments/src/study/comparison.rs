//! Comparisons of variants of a training: what most figures and all ablations are.

use anyhow::{Context, Result, bail};
use reformer_train::{Quantity, Row, TrainConfig};
use serde::Serialize;

use super::{
    Base, DataArguments, DataKind, Report, SetArguments, Study, StudyArguments, Table, Trained,
    Training, train_all,
};
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

    /// The same variant from another seed: by how much results differ by chance.
    pub fn again(&self) -> Self {
        let mut again = self.clone();
        again.key += "-again";
        again.label += ", another seed";
        again.sets.push("seed=43".to_owned());
        again
    }
}

/// What came out of a variant.
#[derive(Debug, Clone, Serialize)]
struct Outcome {
    contest: &'static str,
    variant: String,
    /// Of the last evaluation.
    bits: f64,
    /// That of the first variant taken off.
    difference: f64,
    /// Share of targets predicted, in percent.
    accuracy: f64,
    /// Of the whole training, with its evaluations.
    seconds: f64,
    steps: usize,
}

/// Trains all variants of all contests that there is data for, and writes the report.
///
/// # Errors
/// Whatever keeps one of them from being trained.
pub fn compare(
    comparison: &Comparison,
    arguments: &StudyArguments,
    data: &DataArguments,
    sets: &SetArguments,
) -> Result<()> {
    let mut trainings = Vec::new();
    let mut contests = Vec::new();
    let mut left_out = Vec::new();
    for contest in &comparison.contests {
        match contest.base.config(arguments.preset, data)? {
            Some(config) => {
                let config = overrides::apply(config, &sets.sets)?;
                for variant in &contest.variants {
                    trainings.push(training(contest, variant, &config)?);
                }
                contests.push(contest);
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
    let study = Study::open(comparison.name, arguments, &configs)?;
    let Some(trained) = train_all(&study, &trainings)? else {
        return Ok(());
    };
    report(comparison, &contests, &trained, &study)
}

fn training(contest: &Contest, variant: &Variant, config: &TrainConfig) -> Result<Training> {
    Ok(Training {
        key: format!("{}-{}", contest.key, variant.key),
        label: format!("{}: {}", contest.title, variant.label),
        config: overrides::apply(config.clone(), &variant.sets)?,
    })
}

fn report(
    comparison: &Comparison,
    contests: &[&Contest],
    trained: &[Trained],
    study: &Study,
) -> Result<()> {
    let mut outcomes = Vec::new();
    let mut panels = Vec::new();
    let mut table = Table::new([
        "data",
        "variant",
        "paper",
        "bits",
        "difference",
        "% right",
        "seconds",
    ]);
    let mut rest = trained;
    for contest in contests {
        let (own, others) = rest.split_at(contest.variants.len());
        rest = others;
        let mut reference = None;
        for (variant, trained) in contest.variants.iter().zip(own) {
            let outcome = outcome(contest, variant, &trained.rows, &mut reference)?;
            table.row([
                contest.title.to_owned(),
                variant.label.clone(),
                variant.paper.unwrap_or("-").to_owned(),
                format!("{:.3}", outcome.bits),
                format!("{:+.3}", outcome.difference),
                format!("{:.2}", outcome.accuracy),
                format!("{:.0}", outcome.seconds),
            ]);
            outcomes.push(outcome);
        }
        panels.push(panel(contest, own));
    }
    Report {
        title: comparison.title,
        notes: vec![
            comparison.claim.to_owned(),
            format!(
                "Bits are those of a token of held-out data after the last step ({}); differences are \
                 to the first variant on the same data.",
                steps(&outcomes)
            ),
        ],
        table,
        panels,
        values: &outcomes,
    }
    .write(study)
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

fn outcome(
    contest: &Contest,
    variant: &Variant,
    rows: &[Row],
    reference: &mut Option<f64>,
) -> Result<Outcome> {
    let last = rows.iter().rfind(|row| row.split == "valid");
    let last = last.with_context(|| format!("`{}` was never evaluated", variant.key))?;
    let get = |quantity| last.get(quantity).unwrap_or(f64::NAN);
    let bits = get(Quantity::Bits);
    Ok(Outcome {
        contest: contest.key,
        variant: variant.label.clone(),
        bits,
        difference: bits - *reference.get_or_insert(bits),
        accuracy: get(Quantity::Accuracy),
        seconds: get(Quantity::Seconds),
        steps: last.step,
    })
}

/// Validation over steps, as the paper's curves are.
fn panel(contest: &Contest, trained: &[Trained]) -> Panel {
    let token = match contest.base.data {
        DataKind::Text => "byte",
        DataKind::Images => "dim",
        DataKind::Duplication => "token",
    };
    let curves = contest.variants.iter().zip(trained);
    Panel {
        title: contest.title.to_owned(),
        x: Axis::linear("step"),
        y: Axis::linear(format!("bits per {token}")),
        curves: curves
            .map(|(variant, trained)| Curve::new(&variant.label, bits(&trained.rows, "valid")))
            .collect(),
    }
}
