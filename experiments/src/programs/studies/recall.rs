//! Measures the share of exact attention that hashing finds in trained models, against a window and the optimum.

use std::process::ExitCode;

use anyhow::Result;
use rayon::prelude::*;
use reformer_core::Key;
use reformer_core::kernels::{ReformerBackend, TrainBackend};
use reformer_train::{Batch, Evaluation};
use serde::{Deserialize, Serialize};

use super::{About, Arguments};
use crate::cli::device::{self, Job};
use crate::cli::overrides;
use crate::plot::figure::{Axis, Curve, Panel};
use crate::study::recall::{
    HeadVectors, ROUNDS, Recalled, Seen, Selection, Sum, heads, selections, sorted_far,
};
use crate::study::{
    BaseTraining, DataKind, Report, Scale, Study, Table, Trained, Training, open_and_train,
};

const NAME: &str = "recall";

const BASE: BaseTraining = BaseTraining {
    data: DataKind::Text,
    all: &[],
    cpu: &[
        "model.reformer.n_layers=4",
        "window_length=1024",
        "batch_size=4",
        "steps=400",
        "steps_per_epoch=400",
        "eval_windows=96",
        "model.reformer.lsh.n_buckets={\"Count\":32}",
    ],
    paper: &["steps=20000", "window_length=8192"],
};

/// Names what is measured of a model: another list of selections needs another name.
const SELECTED: &str = "three-windows";

/// Models whose attention is measured: key, name, and changes to the base.
const MODELS: [(&str, &str, &[&str]); 3] = [
    (
        "full",
        "full attention",
        &[r#"model.reformer.layers=["Local","Full"]"#],
    ),
    (
        "separate",
        "full attention, keys of their own",
        &[
            r#"model.reformer.layers=["Local","Full"]"#,
            "model.reformer.full_share_qk=false",
        ],
    ),
    (
        "lsh",
        "LSH-4 and neighbours",
        &[
            r#"model.reformer.layers=["Local","Lsh"]"#,
            "model.reformer.lsh.n_rounds=4",
            "model.reformer.lsh.local_round=true",
        ],
    ),
];

pub(super) fn main() -> ExitCode {
    About {
        name: NAME,
        about: "Measure how much of exact attention's softmax hashing finds in trained models",
        flags: " --enwik8 enwik8.zip",
        cpu: "Fifteen minutes on two CPU cores",
        paper: "Models of the paper's size, windows of 8,192",
        notes: "",
    }
    .run(|arguments: Arguments| run(&arguments))
}

/// Results of one model at one length.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct RecallResult {
    model: String,
    seed: u64,
    length: usize,
    /// For each selection, after each number of rounds (or keys).
    #[serde(rename = "ways")]
    selections: Vec<SelectionResult>,
}

/// Results of one selection.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SelectionResult {
    #[serde(rename = "way")]
    selection: String,
    /// Numbers of rounds, or of keys for selections without rounds.
    amounts: Vec<usize>,
    /// Sums over all layers and heads.
    sums: Vec<Sum>,
    /// Sums for each layer and head.
    by_head: Vec<(usize, usize, Vec<Sum>)>,
}

fn run(arguments: &Arguments) -> Result<()> {
    let scale = arguments.study.preset;
    let base = BASE.config(scale, &arguments.data)?;
    let base = base.ok_or_else(|| anyhow::anyhow!("text is always there"))?;
    let base = overrides::apply_flags(base, &arguments.sets.sets)?;
    let seeds = arguments.seeds.of(base.seed, scale);
    let mut trainings = Vec::new();
    for (key, label, sets) in MODELS {
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        let models = Training::by_seed(key, label, &base, &sets, seeds.clone())?;
        trainings.extend(models);
    }
    let Some((study, trained)) = open_and_train(NAME, &arguments.study, &trainings)? else {
        return Ok(());
    };
    let mut measured = Vec::new();
    for (training, trained) in trainings.iter().zip(&trained) {
        for &length in lengths(scale) {
            let key = format!("{}-{length}-{SELECTED}", training.key);
            measured.push(study.remember(&key, || {
                println!("looking at {} at {length} tokens", training.label);
                measure(&study, training, trained, length)
            })?);
        }
    }
    report(&study, &measured)
}

fn lengths(scale: Scale) -> &'static [usize] {
    scale.pick(&[96], &[1024, 2048, 8192], &[8192, 65_536])
}

/// Window length in keys: of the local round, and of a bucket in a hash round.
fn window(scale: Scale) -> usize {
    scale.pick(8, 64, 64)
}

fn measure(
    study: &Study,
    training: &Training,
    trained: &Trained,
    length: usize,
) -> Result<RecallResult> {
    let job = Look {
        trained,
        length,
        scale: study.scale(),
    };
    let selections = device::run(study.device(), job)?;
    let (model, _) = training.key.rsplit_once('-').unwrap_or((&training.key, ""));
    Ok(RecallResult {
        model: model.to_owned(),
        seed: training.config.seed,
        length,
        selections,
    })
}

struct Look<'a> {
    trained: &'a Trained,
    length: usize,
    scale: Scale,
}

impl Job<Vec<SelectionResult>> for Look<'_> {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<Vec<SelectionResult>> {
        let evaluation = Evaluation::<B::InnerBackend>::open(&self.trained.folder, &[], &device)?
            .with_length(self.length, 1);
        let model = evaluation.model.clone().into_lm()?;
        let mut all: Vec<HeadVectors> = Vec::new();
        for batch in evaluation.batches(self.scale.pick(1, 4, 16), &device)? {
            if let Batch::Tokens(batch) = batch {
                all.extend(heads(&model.reformer, batch.tokens));
            }
        }
        Ok(look::<B::InnerBackend>(&all, self.scale, &device))
    }
}

/// Recall of every selection in some heads.
fn look<B: ReformerBackend>(
    heads: &[HeadVectors],
    scale: Scale,
    device: &B::Device,
) -> Vec<SelectionResult> {
    let selections = selections(window(scale));
    let n_queries = scale.pick(8, 64, 256);
    let found: Vec<Vec<Vec<Sum>>> = heads
        .par_iter()
        .enumerate()
        .map(|(number, head)| {
            let key = Key::new(number as u64);
            of_head::<B>(head, &selections, n_queries, key, device)
        })
        .collect();
    selections
        .iter()
        .enumerate()
        .map(|(number, selection)| {
            let mut sums = vec![Sum::default(); found[0][number].len()];
            let mut by_head: Vec<(usize, usize, Vec<Sum>)> = Vec::new();
            for (head, found) in heads.iter().zip(&found) {
                add(&mut sums, &found[number]);
                let same =
                    |of: &&mut (usize, usize, Vec<Sum>)| (of.0, of.1) == (head.layer, head.number);
                match by_head.iter_mut().find(same) {
                    Some((_, _, sums)) => add(sums, &found[number]),
                    None => by_head.push((head.layer, head.number, found[number].clone())),
                }
            }
            let amounts = match selection {
                Selection::Hashed { .. } => ROUNDS.to_vec(),
                Selection::Best | Selection::Recent => AMOUNTS.to_vec(),
            };
            SelectionResult {
                selection: selection.label(),
                amounts,
                sums,
                by_head,
            }
        })
        .collect()
}

/// Numbers of keys for selections without rounds.
const AMOUNTS: [usize; 6] = [32, 64, 128, 256, 512, 1024];

fn add(sums: &mut [Sum], others: &[Sum]) {
    for (sum, other) in sums.iter_mut().zip(others) {
        sum.join(*other);
    }
}

/// Recall of every selection in a head, over some queries in the last three quarters of the sequence.
fn of_head<B: ReformerBackend>(
    head: &HeadVectors,
    selections: &[Selection],
    n_queries: usize,
    key: Key,
    device: &B::Device,
) -> Vec<Vec<Sum>> {
    let length = head.seq_length();
    let seen: Vec<Option<Seen>> = selections
        .iter()
        .map(|selection| Seen::new::<B>(head, *selection, key, device))
        .collect();
    let mut sums = vec![Vec::new(); selections.len()];
    for query in (length / 4..length).step_by((length * 3 / 4 / n_queries).max(1)) {
        let weights = head.weights(query);
        let far = sorted_far(&weights);
        for ((selection, seen), sums) in selections.iter().zip(&seen).zip(&mut sums) {
            let keys = match (selection, seen) {
                (_, Some(seen)) => seen.keys(query),
                (Selection::Recent, _) => AMOUNTS.iter().map(|&n| recent(query, n)).collect(),
                _ => AMOUNTS.iter().map(|&n| largest(&weights, n)).collect(),
            };
            sums.resize(keys.len(), Sum::default());
            for (sum, keys) in sums.iter_mut().zip(&keys) {
                sum.add(Recalled::new(head, &weights, keys, &far));
            }
        }
    }
    sums
}

fn recent(query: usize, n: usize) -> Vec<bool> {
    let mut seen = vec![false; query];
    seen[query.saturating_sub(n)..].fill(true);
    seen
}

fn largest(weights: &[f64], n: usize) -> Vec<bool> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
    let mut seen = vec![false; weights.len()];
    order.iter().take(n).for_each(|&key| seen[key] = true);
    seen
}

/// Sums over seeds.
fn of_model<'a>(
    measured: &'a [RecallResult],
    model: &str,
    length: usize,
) -> Vec<(&'a str, Vec<(usize, Sum)>)> {
    let mut selections: Vec<(&str, Vec<(usize, Sum)>)> = Vec::new();
    let same = measured
        .iter()
        .filter(|measured| measured.model == model && measured.length == length);
    for measured in same {
        for found in &measured.selections {
            let sums = found
                .amounts
                .iter()
                .copied()
                .zip(found.sums.iter().copied());
            let joined = selections
                .iter_mut()
                .find(|(label, _)| *label == found.selection);
            match joined {
                Some((_, all)) => {
                    for ((_, all), (_, sum)) in all.iter_mut().zip(sums) {
                        all.join(sum);
                    }
                }
                None => selections.push((&found.selection, sums.collect())),
            }
        }
    }
    selections
}

fn report(study: &Study, measured: &[RecallResult]) -> Result<()> {
    let mut table = Table::new([
        "model",
        "length",
        "found by",
        "rounds",
        "keys",
        "mass",
        "far mass",
        "best of as many keys",
        "ratio",
        "error",
    ]);
    let mut panels = Vec::new();
    for (model, label, _) in MODELS {
        for &length in lengths(study.scale()) {
            let selections = of_model(measured, model, length);
            for (selection, sums) in &selections {
                let is_hashed = sums.len() == ROUNDS.len();
                for (amount, sum) in sums {
                    if is_hashed && ![2, 4, 8].contains(amount) {
                        continue;
                    }
                    table.row([
                        label.to_owned(),
                        length.to_string(),
                        (*selection).to_owned(),
                        if is_hashed {
                            amount.to_string()
                        } else {
                            "-".to_owned()
                        },
                        format!("{:.0}", sum.keys()),
                        format!("{:.3}", sum.mass()),
                        format!("{:.3}", sum.far()),
                        format!("{:.3}", sum.far_best()),
                        format!("{:.2}", sum.far() / sum.far_best()),
                        format!("{:.3}", sum.error()),
                    ]);
                }
            }
            // Curves of centred vectors and of chunks within buckets are left out: they coincide with others.
            let drawn = |selection: &&(&str, _)| {
                !selection.0.contains("centred") && !selection.0.contains("within")
            };
            let curves = selections.iter().filter(drawn).map(|(selection, sums)| {
                let points = sums.iter().map(|(_, sum)| (sum.keys(), sum.far()));
                Curve::new(*selection, points.collect())
            });
            panels.push(Panel {
                title: format!("{label}, {length} tokens"),
                x: Axis::log("keys looked at"),
                y: Axis::linear("share of the mass beyond 64"),
                curves: curves.collect(),
            });
        }
    }
    let far = of_model(measured, "lsh", lengths(study.scale())[0]);
    let far = far.first().map_or(0.0, |(_, sums)| sums[0].1.far_of());
    Report {
        title: "How much of exact attention hashing finds",
        notes: vec![
            "Means over layers, heads, seeds, held-out windows and queries in their last three quarters. \
             Keys: different ones that a query looks at. Mass: share of the softmax over all earlier keys \
             that is on them. Far mass: the same beyond the last 64 keys, which a window has anyway; best: \
             what as many keys find of it if they are those with the largest weights; ratio: far mass to \
             that. Error: distance of the output to that of exact attention, relative to its length."
                .to_owned(),
            format!(
                "In the model with LSH attention {:.1} % of the mass is beyond the last 64 keys.",
                100.0 * far
            ),
        ],
        table,
        panels,
        values: &measured,
    }
    .write(study)
}
