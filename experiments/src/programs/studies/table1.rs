//! Table 1: memory and time of attention over length.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use burn::nn::attention::{MhaInput, MultiHeadAttentionConfig, generate_autoregressive_mask};
use burn::tensor::{Distribution, Tensor};
use indicatif::ProgressIterator;
use reformer_core::attention::{
    ExactUpTo, FullAttentionConfig, HeadsConfig, LshAttentionConfig, LshConfig, Window,
};
use reformer_core::kernels::{ReformerBackend, TrainBackend};
use reformer_core::{Key, Pass};
use serde::{Deserialize, Serialize};

use super::About;
use crate::cli::device::{self, DeviceName, Job};
use crate::measure::memory::peak_resident_bytes;
use crate::measure::subprocess::measure_in_subprocess;
use crate::plot::figure::{Axis, Curve, Panel};
use crate::study::{Report, Scale, Study, StudyArguments, Table};

const NAME: &str = "table1_complexity";
const N_HEADS: usize = 4;
/// The paper's `d_k`.
const D_HEAD: usize = 32;
/// The chunk length is fixed, so that `4 l / n_c` is constant.
const CHUNK: usize = 64;

/// A kind of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LayerKind {
    /// Burn's own: all logits at once.
    ScaledDotProduct,
    /// Ours: in slices of queries, recomputed in the backward pass.
    MemoryEfficient,
    /// LSH attention.
    Lsh,
}

impl LayerKind {
    const ALL: [Self; 3] = [Self::ScaledDotProduct, Self::MemoryEfficient, Self::Lsh];

    /// Name, and the paper's complexity of memory and time, each with its power of the length.
    fn paper(self) -> (&'static str, (&'static str, f64), (&'static str, f64)) {
        let quadratic = "max(b n_h l d_k, b n_h l^2)";
        match self {
            Self::ScaledDotProduct => ("scaled dot-product", (quadratic, 2.0), (quadratic, 2.0)),
            Self::MemoryEfficient => (
                "memory-efficient",
                ("max(b n_h l d_k, b n_h l^2)", 2.0),
                (quadratic, 2.0),
            ),
            Self::Lsh => (
                "LSH",
                ("max(b n_h l d_k, b n_h l n_r (4l/n_c)^2)", 1.0),
                ("max(b n_h l d_k, b n_h n_r l (4l/n_c)^2)", 1.0),
            ),
        }
    }
}

/// The task of one process: forward and backward pass of one layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LayerStep {
    kind: LayerKind,
    length: usize,
    n_rounds: usize,
    device: DeviceName,
}

/// Result of one process.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LayerCost {
    kind: LayerKind,
    length: usize,
    /// Peak memory beyond that of the program before the layer; unknown on a GPU.
    mib: f64,
    seconds: f64,
}

pub(super) fn main() -> ExitCode {
    About {
        name: NAME,
        about: "Measure memory and time of scaled dot-product, memory-efficient and LSH attention over \
                length, and compare their growth with the formulae",
        cpu: "Three minutes on two CPU cores",
        paper: "Lengths up to 64K, to 8K where all logits are held; minutes on a large GPU",
        ..About::default()
    }
    .measured(|task: LayerStep| device::run(task.device, task), table)
}

fn tasks(scale: Scale, device: DeviceName) -> Vec<LayerStep> {
    let powers = |from: u32, to: u32| (from..=to).map(|exponent| 1 << exponent);
    let (from, to) = scale.pick((7, 8), (10, 14), (10, 16));
    let most_logits = scale.pick(256, 4096, 8192);
    let mut tasks = Vec::new();
    for kind in LayerKind::ALL {
        let fits = |length: &usize| kind != LayerKind::ScaledDotProduct || *length <= most_logits;
        tasks.extend(powers(from, to).filter(fits).map(|length| LayerStep {
            kind,
            length,
            n_rounds: 4,
            device,
        }));
    }
    tasks
}

impl Job<LayerCost> for LayerStep {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<LayerCost> {
        let layer = layer::<B>(&self, &device);
        let shape = |length| [1, length, N_HEADS * D_HEAD];
        let step = |length| {
            let x = Tensor::<B, 3>::random(shape(length), Distribution::Default, &device);
            let begin = Instant::now();
            let gradients = layer(x.clone().require_grad()).sum().backward();
            B::sync(&device).map_err(|error| anyhow!("the device failed: {error:?}"))?;
            drop(gradients);
            anyhow::Ok(begin.elapsed().as_secs_f64())
        };
        step(2 * CHUNK)?; // Warms up threads and kernels.
        let before = peak_resident_bytes()?;
        let first = step(self.length)?;
        let seconds = first.min(step(self.length)?);
        let bytes = peak_resident_bytes()? - before;
        let on_cpu = matches!(self.device, DeviceName::Flex | DeviceName::Ndarray);
        Ok(LayerCost {
            kind: self.kind,
            length: self.length,
            mib: match on_cpu {
                true => bytes as f64 / f64::from(1 << 20),
                false => f64::NAN,
            },
            seconds,
        })
    }
}

type Attend<B> = Box<dyn Fn(Tensor<B, 3>) -> Tensor<B, 3>>;

fn layer<B: ReformerBackend>(task: &LayerStep, device: &B::Device) -> Attend<B> {
    let heads = HeadsConfig::new(N_HEADS * D_HEAD, N_HEADS);
    match task.kind {
        LayerKind::ScaledDotProduct => {
            let layer = MultiHeadAttentionConfig::new(N_HEADS * D_HEAD, N_HEADS)
                .with_dropout(0.0)
                .init::<B>(device);
            Box::new(move |x| {
                let mask = generate_autoregressive_mask(1, x.dims()[1], &x.device());
                layer
                    .forward(MhaInput::self_attn(x).mask_attn(mask))
                    .context
            })
        }
        LayerKind::MemoryEfficient => {
            let layer = FullAttentionConfig::new(heads).init::<B>(device);
            Box::new(move |x| layer.forward(x, &Pass::train(Key::new(1))).output)
        }
        LayerKind::Lsh => {
            let lsh = LshConfig::new()
                .with_n_rounds(task.n_rounds)
                .with_local_round(false)
                .with_chunk_length(CHUNK)
                .with_window(Window::Chunk {
                    before: 1,
                    after: 0,
                    within_bucket: false,
                })
                .with_exact_up_to(ExactUpTo::Never);
            let layer = LshAttentionConfig::new(heads, lsh).init::<B>(device);
            Box::new(move |x| layer.forward(x, &Pass::train(Key::new(1))).output)
        }
    }
}

fn table(arguments: &StudyArguments) -> Result<()> {
    let tasks = tasks(arguments.preset, arguments.device);
    let study = Study::open(NAME, arguments, &tasks)?;
    let mut measured: Vec<LayerCost> = Vec::new();
    for task in tasks.iter().progress() {
        let key = format!("{}-{}", task.kind.paper().0.replace(' ', "-"), task.length);
        measured.push(study.remember(&key, || measure_in_subprocess(task))?);
    }
    let mut table = Table::new([
        "attention",
        "memory (paper)",
        "power",
        "ours",
        "difference",
        "time (paper)",
        "power of time",
        "ours, time",
        "difference, time",
        "longest",
        "MiB",
        "seconds",
    ]);
    let mut panels = [("memory", "MiB"), ("time", "seconds")].map(|(title, unit)| Panel {
        title: format!("{title} of one layer, forward and backward"),
        x: Axis::log("length"),
        y: Axis::log(unit),
        curves: vec![],
    });
    for kind in LayerKind::ALL {
        let own: Vec<&LayerCost> = measured.iter().filter(|m| m.kind == kind).collect();
        let of = |value: fn(&LayerCost) -> f64| -> Vec<(f64, f64)> {
            own.iter().map(|m| (m.length as f64, value(m))).collect()
        };
        let (memory, time) = (of(|m| m.mib), of(|m| m.seconds));
        let (name, (memory_paper, memory_power), (time_paper, time_power)) = kind.paper();
        let powers = [power(&memory), power(&time)];
        let last = own.last().context("every kind is measured")?;
        table.row([
            name.to_owned(),
            format!("`{memory_paper}`"),
            format!("{memory_power}"),
            format!("{:.2}", powers[0]),
            format!("{:+.2}", powers[0] - memory_power),
            format!("`{time_paper}`"),
            format!("{time_power}"),
            format!("{:.2}", powers[1]),
            format!("{:+.2}", powers[1] - time_power),
            last.length.to_string(),
            format!("{:.1}", last.mib),
            format!("{:.3}", last.seconds),
        ]);
        for ((panel, points), power) in panels
            .iter_mut()
            .zip([memory, time])
            .zip([memory_power, time_power])
        {
            panel.curves.push(Curve::new(name, points.clone()));
            let formula = Curve::new(format!("{name}: l^{power}"), expected(&points, power));
            panel.curves.push(formula.dashed());
        }
    }
    Report {
        title: "Table 1: memory and time of attention",
        notes: vec![
            "Powers of the length: the slope between the last two lengths that were measured (on axes of \
             factors), against that of the paper's formula. Ours of memory-efficient attention is linear \
             in memory: slices of queries are computed one after the other, and again in backward; the \
             paper's table has the square in both columns. Dashes start from the longest measurement."
                .to_owned(),
        ],
        table,
        panels: panels.to_vec(),
        values: &measured,
    }
    .write(&study)
}

/// Exponent of the growth between the last two points.
fn power(points: &[(f64, f64)]) -> f64 {
    let [.., before, last] = points else {
        return f64::NAN;
    };
    (last.1 / before.1).ln() / (last.0 / before.0).ln()
}

/// Expected values of a power law through the longest measurement.
fn expected(points: &[(f64, f64)], power: f64) -> Vec<(f64, f64)> {
    let Some(last) = points.last() else {
        return vec![];
    };
    let at = |(length, _): &(f64, f64)| (*length, last.1 * (length / last.0).powf(power));
    points.iter().map(at).collect()
}
