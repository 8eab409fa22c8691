//! Measures the benefit of long contexts: held-out bits of a text by position in the window.

use std::process::ExitCode;

use anyhow::{Context, Result};
use burn::tensor::activation::log_softmax;
use burn::tensor::{ElementConversion, Int, Tensor};
use reformer_core::Pass;
use reformer_core::kernels::{ReformerBackend, TrainBackend};
use reformer_core::model::ReformerLm;
use reformer_train::{Batch, Evaluation, TrainConfig};
use serde::{Deserialize, Serialize};

use super::{About, Arguments};
use crate::cli::device::{self, Job};
use crate::cli::overrides;
use crate::plot::figure::{Axis, Curve, Panel};
use crate::plot::{self, seconds};
use crate::study::statistics::{between, margin, mean};
use crate::study::{
    BaseTraining, DataKind, Report, Scale, Study, Table, Trained, Training, open_and_train,
};

const NAME: &str = "use_of_context";

const BASE: BaseTraining = BaseTraining {
    data: DataKind::Text,
    all: &[
        "model.reformer.local.chunk_length=128",
        // The library's default layer: a local round, and hash rounds for keys beyond it.
        "model.reformer.lsh.local_round=true",
        "model.reformer.lsh.n_rounds=4",
    ],
    cpu: &[
        "model.reformer.n_layers=4",
        "window_length=8192",
        "batch_size=1",
        "steps=600",
        "steps_per_epoch=100",
        "eval_windows=8",
        "model.reformer.lsh.n_buckets={\"Count\":128}",
    ],
    paper: &["steps=20000", "window_length=65536"],
};

/// Trained models: key, name, and changes to the base. The others are compared with the first one.
const MODELS: [(&str, &str, &str); 3] = [
    ("local", "local", r#"model.reformer.layers=["Local"]"#),
    (
        "lsh",
        "local and LSH-4",
        r#"model.reformer.layers=["Local","Lsh"]"#,
    ),
    (
        "full",
        "local and full",
        r#"model.reformer.layers=["Local","Full"]"#,
    ),
];

/// Borders between the groups of positions that are reported, as shares of the window.
const BORDERS: [f64; 4] = [0.0, 1.0 / 16.0, 1.0 / 4.0, 1.0];

/// Results of a training.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ModelResult {
    model: String,
    seed: u64,
    /// Bits per byte, for the positions between each two borders.
    bits: Vec<f64>,
    /// Bits per byte over all positions, in the last evaluation.
    all: f64,
    /// The same after the training time of the first model from the same seed; none without an evaluation
    /// by then.
    at_equal_seconds: Option<f64>,
    seconds: f64,
}

pub(super) fn main() -> ExitCode {
    About {
        name: NAME,
        about: "Train on long windows of text with local, LSH and full attention, and measure bits by position",
        flags: " --text novels/",
        cpu: "Three hours on two CPU cores",
        paper: "Windows of 64K bytes; days, since full attention is quadratic",
        notes: "",
    }
    .run(|arguments: Arguments| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let scale = arguments.study.preset;
    let base = BASE.config(scale, &arguments.data)?;
    let base = base.context("text is always there")?;
    let base = overrides::apply_flags(base, &arguments.sets.sets)?;
    let seeds = arguments.seeds.of(base.seed, scale);
    let mut trainings = Vec::new();
    for (key, label, set) in MODELS {
        let sets = [set.to_owned()];
        trainings.extend(Training::by_seed(key, label, &base, &sets, seeds.clone())?);
    }
    let Some((study, trained)) = open_and_train(NAME, &arguments.study, &trainings)? else {
        return Ok(());
    };
    let n_seeds = seeds.count();
    let mut outcomes: Vec<ModelResult> = Vec::new();
    for (number, (training, trained)) in trainings.iter().zip(&trained).enumerate() {
        let bits = study.remember(&training.key, || {
            println!("measuring {}", training.label);
            by_position(trained, &study)
        })?;
        // Training time of the first model from the same seed.
        let equal = outcomes.get(number % n_seeds).map(|first| first.seconds);
        let (model, _, _) = MODELS[number / n_seeds];
        outcomes.push(outcome(model, training, trained, bits, equal)?);
    }
    report(&study, &base, &trained, &outcomes, n_seeds)
}

fn outcome(
    model: &str,
    training: &Training,
    trained: &Trained,
    bits: Vec<f64>,
    equal_seconds: Option<f64>,
) -> Result<ModelResult> {
    let points = plot::bits(&trained.rows, "valid", seconds);
    let last = points.last();
    let &(seconds, all) =
        last.with_context(|| format!("`{}` was never evaluated", training.key))?;
    let limit = equal_seconds.unwrap_or(seconds);
    let within = points.iter().rfind(|(seconds, _)| *seconds <= limit);
    Ok(ModelResult {
        model: model.to_owned(),
        seed: training.config.seed,
        bits,
        all,
        at_equal_seconds: within.map(|(_, bits)| *bits),
        seconds,
    })
}

/// Ranges of positions between the borders.
fn parts(length: usize) -> impl Iterator<Item = [usize; 2]> {
    let at = move |share: f64| (share * length as f64) as usize;
    BORDERS
        .windows(2)
        .map(move |pair| [at(pair[0]), at(pair[1])])
}

/// Bits per byte of held-out windows, for each range of positions.
fn by_position(trained: &Trained, study: &Study) -> Result<Vec<f64>> {
    let job = Measure {
        trained,
        scale: study.scale(),
    };
    device::run(study.device(), job)
}

struct Measure<'a> {
    trained: &'a Trained,
    scale: Scale,
}

impl Job<Vec<f64>> for Measure<'_> {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<Vec<f64>> {
        let evaluation = Evaluation::<B::InnerBackend>::open(&self.trained.folder, &[], &device)?
            .with_first(Some(self.scale.pick(1, 32, 64)));
        let model = evaluation.model.clone().into_lm()?;
        let length = evaluation.config().window_length;
        let mut sums = vec![[0.0; 2]; BORDERS.len() - 1];
        for batch in evaluation.batches(usize::MAX, &device)? {
            let Batch::Tokens(batch) = batch else {
                anyhow::bail!("the training is about other data");
            };
            let nats = nats(&model, batch.tokens, batch.targets);
            for (sum, [start, end]) in sums.iter_mut().zip(parts(length)) {
                let of_part = nats.clone().slice_dim(1, start..end);
                sum[1] += of_part.shape().num_elements() as f64;
                sum[0] += of_part.sum().into_scalar().elem::<f64>();
            }
        }
        let bits = |[nats, n]: [f64; 2]| nats / n / std::f64::consts::LN_2;
        Ok(sums.into_iter().map(bits).collect())
    }
}

/// The loss of every position.
///
/// # Shapes
/// - tokens, targets, output: `[batch_size, seq_length]`
fn nats<B: ReformerBackend>(
    model: &ReformerLm<B>,
    tokens: Tensor<B, 2, Int>,
    targets: Tensor<B, 2, Int>,
) -> Tensor<B, 2> {
    let logits = model.forward(tokens, &Pass::eval());
    let of_targets = log_softmax(logits, 2).gather(2, targets.unsqueeze_dim(2));
    -of_targets.squeeze_dim(2)
}

fn report(
    study: &Study,
    base: &TrainConfig,
    trained: &[Trained],
    outcomes: &[ModelResult],
    n_seeds: usize,
) -> Result<()> {
    let length = base.window_length;
    let names: Vec<String> = parts(length).map(|[a, b]| format!("{a}..{b}")).collect();
    let mut columns = vec!["layers".to_owned()];
    columns.extend(names.iter().cloned());
    columns.extend(
        [
            "range of the last",
            "last, difference",
            "95 %",
            "all",
            "at equal seconds",
            "seconds",
        ]
        .map(str::to_owned),
    );
    let mut table = Table::new(columns);
    let first = &outcomes[..n_seeds];
    for ((_, label, _), outcomes) in MODELS.iter().zip(outcomes.chunks(n_seeds)) {
        let of = |get: &dyn Fn(&ModelResult) -> f64| outcomes.iter().map(get).collect::<Vec<f64>>();
        let of_part = |part: usize| of(&|outcome| outcome.bits[part]);
        let last = of_part(names.len() - 1);
        let pairs = last.iter().zip(first);
        let differences: Vec<f64> = pairs
            .map(|(own, first)| own - first.bits[names.len() - 1])
            .collect();
        let mut row = vec![(*label).to_owned()];
        row.extend((0..names.len()).map(|part| format!("{:.3}", mean(&of_part(part)))));
        row.extend([
            between(&last, 3),
            format!("{:+.3}", mean(&differences)),
            margin(&differences),
            format!("{:.3}", mean(&of(&|outcome| outcome.all))),
            at_equal_seconds(outcomes),
            format!("{:.0}", mean(&of(&|outcome| outcome.seconds))),
        ]);
        table.row(row);
    }
    Report {
        title: "What a long context is good for",
        notes: vec![format!(
            "Bits of a byte of held-out windows of {length} bytes, by position in the window, after {} steps: \
             means over {n_seeds} seeds. What a model gains from its context shows in how much better later \
             positions are than those before, and than those of local layers. Differences are to local layers \
             alone, from the same seeds. At equal seconds: of the last evaluation before local layers were \
             done, all positions.",
            base.steps
        )],
        table,
        panels: panels(length, trained, outcomes, n_seeds),
        values: &outcomes,
    }
    .write(study)
}

/// The mean; none unless every training has a value.
fn at_equal_seconds(outcomes: &[ModelResult]) -> String {
    let bits = outcomes.iter().map(|outcome| outcome.at_equal_seconds);
    let bits: Option<Vec<f64>> = bits.collect();
    bits.map_or_else(|| "-".to_owned(), |bits| format!("{:.3}", mean(&bits)))
}

fn panels(
    length: usize,
    trained: &[Trained],
    outcomes: &[ModelResult],
    n_seeds: usize,
) -> Vec<Panel> {
    let position = |[start, end]: [usize; 2]| ((start + end) / 2) as f64;
    let by_position = MODELS.iter().zip(outcomes.chunks(n_seeds));
    let by_position = by_position.map(|((_, label, _), outcomes)| {
        let points = parts(length).enumerate().map(|(part, borders)| {
            let bits: Vec<f64> = outcomes.iter().map(|outcome| outcome.bits[part]).collect();
            (position(borders), mean(&bits))
        });
        Curve::new(*label, points.collect())
    });
    let over_time = MODELS.iter().zip(trained.chunks(n_seeds));
    let over_time = over_time.map(|((_, label, _), trained)| {
        Curve::new(*label, plot::bits(&trained[0].rows, "valid", seconds))
    });
    vec![
        Panel {
            title: "by position".to_owned(),
            x: Axis::log("position, middle of the part"),
            y: Axis::linear("bits per byte"),
            curves: by_position.collect(),
        },
        Panel {
            title: "over time, first seed".to_owned(),
            x: Axis::linear("seconds"),
            y: Axis::linear("bits per byte"),
            curves: over_time.collect(),
        },
    ]
}
