//! Table 3: memory and time, from a Transformer step by step to a Reformer.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::About;
use crate::measure::step::{Measurement, StepArguments, measure};
use crate::plot::figure::{Axis, Curve, Panel};
use crate::study::{Report, Scale, StudyArguments, Table, open_and_measure, step};

const NAME: &str = "table3_memory";

/// A row of the table.
struct ModelRow {
    name: &'static str,
    flags: &'static str,
    /// Whether feed-forward layers and loss are computed in chunks.
    chunked: bool,
    /// The paper's bounds, with `c` = 128^2.
    memory: &'static str,
    time: &'static str,
}

const MODELS: [ModelRow; 6] = [
    ModelRow {
        name: "Transformer (Burn's own)",
        flags: "--attention transformer",
        chunked: false,
        memory: "max(b l d_ff, b n_h l^2) n_l",
        time: "(b l d_ff + b n_h l^2) n_l",
    },
    ModelRow {
        name: "Transformer (memory-efficient attention)",
        flags: "--attention full --mode ordinary",
        chunked: false,
        memory: "max(b l d_ff, b n_h l^2) n_l",
        time: "(b l d_ff + b n_h l^2) n_l",
    },
    ModelRow {
        name: "Reversible Transformer",
        flags: "--attention full",
        chunked: false,
        memory: "max(b l d_ff, b n_h l^2)",
        time: "(b n_h l d_ff + b n_h l^2) n_l",
    },
    ModelRow {
        name: "Chunked Reversible Transformer",
        flags: "--attention full",
        chunked: true,
        memory: "max(b l d_model, b n_h l^2)",
        time: "(b n_h l d_ff + b n_h l^2) n_l",
    },
    ModelRow {
        name: "LSH Transformer",
        flags: "--attention lsh --mode ordinary --always-hash",
        chunked: false,
        memory: "max(b l d_ff, b n_h l n_r c) n_l",
        time: "(b l d_ff + b n_h n_r l c) n_l",
    },
    ModelRow {
        name: "Reformer",
        flags: "--attention lsh --always-hash",
        chunked: true,
        memory: "max(b l d_model, b n_h l n_r c)",
        time: "(b l d_ff + b n_h n_r l c) n_l",
    },
];

/// The size that is varied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Axes {
    Layers,
    Length,
    DFf,
}

/// Sizes of one measurement.
#[derive(Debug, Clone, Copy, Serialize)]
struct Sizes {
    layers: usize,
    length: usize,
    d_ff: usize,
}

impl Sizes {
    fn with(mut self, axis: Axes, value: usize) -> Self {
        match axis {
            Axes::Layers => self.layers = value,
            Axes::Length => self.length = value,
            Axes::DFf => self.d_ff = value,
        }
        self
    }
}

pub(super) fn main() -> ExitCode {
    About {
        name: NAME,
        about: "Measure memory and time of the models between a Transformer and a Reformer over layers, \
                 length and d_ff",
        cpu: "Five minutes on two CPU cores",
        paper: "Width 1,024 up to 16K tokens; minutes on a large GPU with 80 GB",
        ..About::default()
    }
    .measured(measure, table)
}

/// The base sizes, the values each size is varied over, and the flags that all measurements share.
fn setting(scale: Scale) -> (Sizes, [(Axes, Vec<usize>); 3], &'static str) {
    let sizes = |layers, length, d_ff| Sizes {
        layers,
        length,
        d_ff,
    };
    scale.pick(
        (
            sizes(1, 128, 32),
            [
                (Axes::Layers, vec![1, 2]),
                (Axes::Length, vec![128, 256]),
                (Axes::DFf, vec![32, 64]),
            ],
            "--d-model 16 --n-heads 2 --d-head 8 --chunk-length 16 --steps 1 --bare",
        ),
        (
            sizes(2, 2048, 512),
            [
                (Axes::Layers, vec![2, 4, 8]),
                (Axes::Length, vec![1024, 2048, 4096]),
                (Axes::DFf, vec![512, 2048, 8192]),
            ],
            "--d-model 128 --n-heads 4 --d-head 32 --chunk-length 64 --steps 1 --bare",
        ),
        (
            sizes(3, 4096, 4096),
            [
                (Axes::Layers, vec![3, 6, 12]),
                (Axes::Length, vec![4096, 8192, 16_384]),
                (Axes::DFf, vec![4096, 8192, 16_384]),
            ],
            "--d-model 1024 --n-heads 8 --d-head 128 --chunk-length 64 --steps 3",
        ),
    )
}

fn points(scale: Scale) -> Vec<(String, StepArguments)> {
    let (middle, axes, model) = setting(scale);
    let mut points = Vec::new();
    for row in &MODELS {
        for (axis, values) in &axes {
            for &value in values {
                let Sizes {
                    layers,
                    length,
                    d_ff,
                } = middle.with(*axis, value);
                let chunk = if row.chunked { length / 8 } else { length };
                let words = format!(
                    "{model} {} --layers {layers} --length {length} --d-ff {d_ff} --ff-chunk-length {chunk}",
                    row.flags
                );
                let name = row.name.to_lowercase().replace([' ', '(', ')', '\''], "-");
                let key = format!("{name}-{layers}-{length}-{d_ff}");
                points.push((key, step(&words)));
            }
        }
    }
    points
}

fn table(arguments: &StudyArguments) -> Result<()> {
    let points = points(arguments.preset);
    let (study, measured) = open_and_measure(NAME, arguments, &points)?;
    let (_, axes, _) = setting(arguments.preset);
    let mut table = Table::new([
        "model",
        "memory (paper)",
        "time (paper)",
        "MiB a layer",
        "MiB a 1K tokens",
        "MiB a 1K of d_ff",
        "s x length",
        "peak MiB",
        "seconds",
    ]);
    let n_values: usize = axes.iter().map(|(_, values)| values.len()).sum();
    let mut curves = [vec![], vec![], vec![], vec![]];
    for (row, measured) in MODELS.iter().zip(measured.chunks(n_values)) {
        let mut rest = measured;
        let mut slopes = Vec::new();
        let mut growth = f64::NAN;
        let mut largest = None;
        for (number, (axis, values)) in axes.iter().enumerate() {
            let (own, others) = rest.split_at(values.len());
            rest = others;
            let xs = values.iter().map(|value| *value as f64);
            let memory: Vec<_> = xs.clone().zip(own.iter().map(activations)).collect();
            slopes.push(slope(&memory));
            curves[number].push(Curve::new(row.name, memory));
            if *axis == Axes::Length {
                let time: Vec<_> = xs.zip(own.iter().map(|step| step.seconds)).collect();
                growth = time[time.len() - 1].1 / time[0].1;
                largest = own.last();
                curves[3].push(Curve::new(row.name, time));
            }
        }
        table.row([
            row.name.to_owned(),
            format!("`{}`", row.memory),
            format!("`{}`", row.time),
            format!("{:.2}", slopes[0]),
            format!("{:.1}", 1024.0 * slopes[1]),
            format!("{:.1}", 1024.0 * slopes[2]),
            format!("{growth:.1}"),
            format!("{:.0}", largest.map_or(f64::NAN, activations)),
            format!("{:.2}", largest.map_or(f64::NAN, |step| step.seconds)),
        ]);
    }
    let [layers, length, d_ff, time] = curves;
    let panel = |title: &str, x, y: &str, curves| Panel {
        title: title.to_owned(),
        x,
        y: Axis::log(y),
        curves,
    };
    let lengths = &axes[1].1;
    Report {
        title: "Table 3: memory and time of the models between a Transformer and a Reformer",
        notes: vec![format!(
            "Memory is the peak of a process that does one training step, without parameters and their \
             gradients; slopes are taken between the smallest and the largest size. The last three columns \
             are about the length: how many times longer a step takes at {} than at {}, and memory and time \
             at the longer. Attention here is computed in slices even where it is exact, so of the paper's \
             l^2 only Burn's own Transformer has the memory.",
            lengths[lengths.len() - 1],
            lengths[0]
        )],
        table,
        panels: vec![
            panel("memory over layers", Axis::log("layers"), "MiB", layers),
            panel("memory over length", Axis::log("length"), "MiB", length),
            panel("memory over d_ff", Axis::log("d_ff"), "MiB", d_ff),
            panel("time over length", Axis::log("length"), "seconds", time),
        ],
        values: &measured,
    }
    .write(&study)
}

/// MiB without parameters and their gradients; not a number where the peak is not known.
fn activations(step: &Measurement) -> f64 {
    step.activation_mib().unwrap_or(f64::NAN)
}

/// Slope between the first and the last point.
fn slope(points: &[(f64, f64)]) -> f64 {
    let (first, last) = (points[0], points[points.len() - 1]);
    (last.1 - first.1) / (last.0 - first.0)
}
