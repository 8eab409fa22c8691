//! The claim of the paper's abstract on memory: a million tokens in 16 GB.

use std::process::ExitCode;

use anyhow::Result;

use super::About;
use crate::measure::step::{StepArguments, measure};
use crate::plot::figure::{Axis, Curve, Panel};
use crate::study::{Report, Scale, StudyArguments, Table, open_and_measure, step};

const NAME: &str = "long_context";
/// The memory of one accelerator, in MiB.
const LIMIT_MIB: f64 = 16.0 * 1024.0;

pub(super) fn main() -> ExitCode {
    About {
        name: NAME,
        about: "Measure one training step on 64K, 256K and 1M tokens",
        cpu: "Ten minutes on two CPU cores, and 15 GB of memory",
        paper: "6 layers of width 512; below 16 GB, a minute on a large GPU",
        ..About::default()
    }
    .measured(measure, study)
}

fn points(scale: Scale) -> Vec<(String, StepArguments)> {
    let lengths: &[usize] = scale.pick(
        &[256, 512],
        &[1 << 16, 1 << 18, 1 << 20],
        &[1 << 16, 1 << 18, 1 << 20],
    );
    let model = scale.pick(
        "--layers 2 --d-model 16 --n-heads 2 --d-head 8 --d-ff 32 --chunk-length 16",
        "--layers 6 --d-model 256 --n-heads 4 --d-head 64 --d-ff 1024 --n-rounds 2 --ff-chunk-length 4096",
        "--layers 6 --d-model 512 --n-heads 8 --d-head 64 --d-ff 2048 --n-rounds 2 --ff-chunk-length 16384",
    );
    let point = |&length: &usize| {
        let words = format!("{model} --window-kind bucket --length {length} --steps 1 --bare");
        (format!("length-{length}"), step(&words))
    };
    lengths.iter().map(point).collect()
}

fn study(arguments: &StudyArguments) -> Result<()> {
    let points = points(arguments.preset);
    let (study, measured) = open_and_measure(NAME, arguments, &points)?;
    let mut table = Table::new([
        "tokens",
        "paper",
        "peak GiB",
        "GiB below 16",
        "seconds a step",
        "tokens/s",
    ]);
    let mut memory = Vec::new();
    let mut seconds = Vec::new();
    for step in &measured {
        let length = step.settings.length;
        let peak = step.peak_mib.unwrap_or(f64::NAN);
        let claim = if length == 1 << 20 { "16 GB" } else { "-" };
        table.row([
            length.to_string(),
            claim.to_owned(),
            format!("{:.2}", peak / 1024.0),
            format!("{:+.2}", (LIMIT_MIB - peak) / 1024.0),
            format!("{:.1}", step.seconds),
            format!("{:.0}", step.tokens_per_second),
        ]);
        memory.push((length as f64, peak / 1024.0));
        seconds.push((length as f64, step.seconds));
    }
    let limit = memory
        .iter()
        .map(|(length, _)| (*length, LIMIT_MIB / 1024.0));
    let limit = Curve::new("16 GiB", limit.collect()).dashed();
    let panel = |title: &str, label: &str, curves| Panel {
        title: title.to_owned(),
        x: Axis::log("tokens"),
        y: Axis::log(label),
        curves,
    };
    Report {
        title: "A million tokens in 16 GB",
        notes: vec![
            "Google's announcement of the paper: up to a million words of context on one accelerator with \
             16 GB. Here one training step (forward, loss, backward), with all parameters and gradients; \
             on a CPU the peak is the resident memory of the whole process."
                .to_owned(),
        ],
        table,
        panels: vec![
            panel("peak memory", "GiB", vec![Curve::new("measured", memory), limit]),
            panel("time", "seconds a step", vec![Curve::new("measured", seconds)]),
        ],
        values: &measured,
    }
    .write(&study)
}
