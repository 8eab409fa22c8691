//! Times a training step and compares it with the machine's rate of matrix products, or compares the memory of steps over
//! depth.
//!
//! Claim (paper, section 3): reversible layers make the memory of activations independent of the number of layers.

use std::fmt::Display;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use reformer_core::reversible::Mode;

use crate::cli;
use crate::cli::named::{name_of, named};
use crate::measure::step::{Measurement, StepArguments, measure};
use crate::measure::subprocess::{measure_in_subprocess, run_measurement};
use crate::study::{Table, cell};

const EXAMPLES: &str = "\
Examples:
  The step of the tables in the README:
    bench_step --length 4096
  Exact attention, for comparison:
    bench_step --length 4096 --attention full
  Burn's own Transformer of the same size, and ours with exact attention where that is cheaper:
    bench_step --length 512 --attention transformer
    bench_step --length 512 --exact-where-cheaper
  On a GPU, in half precision:
    bench_step --length 65536 --device cuda --precision bf16
  As JSON:
    bench_step --length 65536 --steps 1 --json
  Memory over depth, of reversible layers and of the same ones by plain autodiff:
    bench_step --length 8192 --steps 1 --sweep-layers 4,8,16,32

A step is forward, loss and backward, without the optimizer, after one step to warm up. The limit is
the time that its matrix products would take at the rate of one large product, measured in the same
run. Operations are counted as documented in experiments/src/measure/flops.rs.";

/// Measure the time and memory of a training step.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    step: StepArguments,
    /// Compare the memory of models with these numbers of blocks: each is measured with --bare, in a process of its own
    #[arg(long, value_name = "N,...", value_delimiter = ',', conflicts_with_all = ["layers", "mode"])]
    sweep_layers: Vec<usize>,
    /// Modes that are compared
    #[arg(
        long,
        value_name = "MODE,...",
        value_delimiter = ',',
        value_parser = named::<Mode>(),
        requires = "sweep_layers",
        default_value = "reversible,plain"
    )]
    sweep_modes: Vec<Mode>,
    /// Print a line of JSON for each measurement
    #[arg(long)]
    json: bool,
    /// Measure this in a subprocess, and print it as JSON
    #[arg(long, value_name = "JSON", hide = true)]
    measure: Option<String>,
}

pub fn main() -> ExitCode {
    let arguments: Arguments = cli::parse();
    match &arguments.measure {
        // Freed memory is not kept, as it is otherwise, so that the peak is what a step needs.
        Some(task) => cli::main(|| run_measurement(task, measure)),
        None => cli::parsed_program(arguments, |arguments| match arguments.sweep_layers[..] {
            [] => print(&measure(arguments.step)?, arguments.json),
            _ => sweep(&arguments),
        }),
    }
}

fn print(measurement: &Measurement, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(measurement)?);
        return Ok(());
    }
    let Measurement {
        seconds,
        tokens_per_second,
        gflop,
        ..
    } = measurement;
    println!("a step:          {seconds:.3} s, {tokens_per_second:.0} tokens/s");
    match measurement.peak_mib {
        Some(peak_mib) => println!("peak memory:     {peak_mib:.0} MiB"),
        None => println!("peak memory:     not known for this device"),
    }
    println!("products:        {gflop:.1} GFLOP");
    if let (Some(gflops), Some(ratio)) = (measurement.gemm_gflops, measurement.ratio_to_limit) {
        println!("large product:   {gflops:.0} GFLOP/s");
        println!("ratio to limit:  {ratio:.2}");
    }
    Ok(())
}

/// Measures every depth in every mode. What was measured before an error is printed as well.
fn sweep(arguments: &Arguments) -> Result<()> {
    if arguments.step.is_transformer() {
        bail!("Burn's Transformer has no modes to compare: measure it with `--layers` instead");
    }
    check_once("--sweep-layers", &arguments.sweep_layers)?;
    let modes = arguments.sweep_modes.iter();
    let modes: Vec<_> = modes.map(|mode| name_of(mode).unwrap_or("-")).collect();
    check_once("--sweep-modes", &modes)?;
    let mut measured = Vec::new();
    let result = steps(arguments).try_for_each(|step| {
        let measurement: Measurement = measure_in_subprocess(&step)
            .with_context(|| format!("layers {}, mode {}", step.layers, mode_of(&step)))?;
        if arguments.json {
            print(&measurement, true)?;
        }
        measured.push(measurement);
        Ok(())
    });
    if !arguments.json && !measured.is_empty() {
        print!("{}", table(&measured).markdown());
    }
    result
}

/// Refuses a list that has a value more than once: it would be measured as often.
fn check_once(flag: &str, values: &[impl PartialEq + Display]) -> Result<()> {
    let mut numbered = values.iter().enumerate();
    match numbered.find(|(number, value)| values[..*number].contains(value)) {
        Some((_, value)) => bail!("`{flag}` has {value} more than once: give it once"),
        None => Ok(()),
    }
}

/// The steps to compare, all depths of a mode one after another.
fn steps(arguments: &Arguments) -> impl Iterator<Item = StepArguments> {
    let modes = arguments.sweep_modes.iter();
    modes.flat_map(move |&mode| {
        let step = move |&layers| StepArguments {
            layers,
            mode,
            bare: true,
            ..arguments.step.clone()
        };
        arguments.sweep_layers.iter().map(step)
    })
}

fn mode_of(step: &StepArguments) -> &'static str {
    name_of(&step.mode).unwrap_or("-")
}

/// Memory of each step, and how much more it is than that of the first one in its mode.
fn table(measured: &[Measurement]) -> Table {
    let mut table = Table::new([
        "mode",
        "layers",
        "peak MiB",
        "without parameters and gradients",
        "growth",
        "seconds",
    ]);
    for step in measured {
        let mode = step.settings.mode;
        let first = measured.iter().find(|other| other.settings.mode == mode);
        let own = step.activation_mib();
        let growth = own.zip(first.and_then(Measurement::activation_mib));
        let growth = growth.map(|(own, first)| format!("{:.1} %", 100.0 * (own / first - 1.0)));
        table.row([
            mode_of(&step.settings).to_owned(),
            step.settings.layers.to_string(),
            cell(step.peak_mib, 1),
            cell(own, 1),
            growth.unwrap_or("-".to_owned()),
            format!("{:.1}", step.seconds),
        ]);
    }
    table
}
