//! Measures the memory of one training step (forward and backward), by depth and mode.
//!
//! Claim (paper, section 3): reversible layers make the memory of activations independent of the
//! number of layers.

use std::process::ExitCode;

use anyhow::Result;
use burn::module::Module;
use clap::Parser;
use reformer_core::kernels::TrainBackend;
use reformer_core::model::{ReformerConfig, ReformerLmConfig};
use reformer_core::reversible::Mode;
use serde::{Deserialize, Serialize};

use crate::cli;
use crate::cli::arguments::{MOST_TOKENS, ModelArguments, check_range};
use crate::cli::device::{self, DeviceName, Job};
use crate::cli::named::{by_name, name_of};
use crate::measure::memory::peak_resident_bytes;
use crate::measure::step::time_lm;
use crate::measure::subprocess::{measure_in_subprocess, run_measurement};
use crate::study::Table;

const EXAMPLES: &str = "\
Examples:
  One number:
    bench_memory --layers 16 --mode reversible
  The table, 4 to 32 layers in both modes:
    bench_memory --sweep
  As JSON:
    bench_memory --sweep --json

Each number is the peak resident memory of a process of its own that does one training step.";

const LAYERS: [usize; 4] = [4, 8, 16, 32];
const MODES: [Mode; 2] = [Mode::Reversible, Mode::Plain];
const D_MODEL: usize = 64;
const N_HEADS: usize = 2;
const N_LAYERS: usize = 4;
const BYTES_OF_F32: u64 = 4;

/// Measure the peak memory of one training step.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Bytes in the single window of the step
    #[arg(long, value_name = "N", default_value_t = 8192)]
    length: usize,
    /// Positions in a chunk of the feed-forward layers and of the loss
    #[arg(long, value_name = "N", default_value_t = 1024)]
    ff_chunk_length: usize,
    /// Measure 4, 8, 16 and 32 layers in reversible and plain mode
    #[arg(long, conflicts_with_all = ["layers", "mode"])]
    sweep: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Backend to compute on; the memory of a GPU is not measured
    #[arg(long, value_enum, default_value = "flex")]
    device: DeviceName,
    #[command(flatten)]
    model: ModelArguments,
    /// Measure this in a subprocess, and print it as JSON
    #[arg(long, value_name = "JSON", hide = true)]
    measure: Option<String>,
}

/// Freed memory is not kept, as other programs do, so that the peak is what a step needs.
pub fn main() -> ExitCode {
    let arguments: Arguments = cli::parse();
    cli::main(|| match &arguments.measure {
        Some(task) => run_measurement(task, |task: Step| device::run(task.device, task)),
        None => measure(&arguments),
    })
}

fn measure(arguments: &Arguments) -> Result<()> {
    let config = config(arguments);
    let configs = match arguments.sweep {
        true => sweep(&config),
        false => vec![config],
    };
    let measured = configs.into_iter().map(|config| {
        measure_in_subprocess(&Step {
            config,
            length: arguments.length,
            device: arguments.device,
        })
    });
    let measured: Vec<StepMemory> = measured.collect::<Result<_>>()?;
    match arguments.json {
        true => println!("{}", serde_json::to_string_pretty(&measured)?),
        false => print!("{}", table(&measured).markdown()),
    }
    Ok(())
}

fn config(arguments: &Arguments) -> ReformerLmConfig {
    let mut model = ReformerConfig::new(256, D_MODEL, N_LAYERS)
        .with_n_heads(N_HEADS)
        .with_ff_chunk_length(Some(arguments.ff_chunk_length));
    arguments.model.apply(&mut model);
    ReformerLmConfig::new(model).with_loss_chunk_length(arguments.ff_chunk_length)
}

/// The model in every mode and depth.
fn sweep(config: &ReformerLmConfig) -> Vec<ReformerLmConfig> {
    let all = MODES.iter().flat_map(|mode| LAYERS.map(|n| (*mode, n)));
    all.map(|(mode, n_layers)| {
        let mut config = config.clone();
        config.reformer.mode = mode;
        config.reformer.n_layers = n_layers;
        config
    })
    .collect()
}

/// The step that a process does.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Step {
    config: ReformerLmConfig,
    length: usize,
    device: DeviceName,
}

/// Memory of a process that did one step.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StepMemory {
    #[serde(with = "by_name")]
    mode: Mode,
    layers: usize,
    length: usize,
    parameters: usize,
    /// Peak resident memory.
    peak_bytes: u64,
    /// The same before the model was built: the program itself.
    start_bytes: u64,
    /// The peak without parameters and their gradients.
    activation_bytes: u64,
    step_seconds: f64,
    loss: f64,
}

impl Job<StepMemory> for Step {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<StepMemory> {
        let Self { config, length, .. } = self;
        config.validate()?;
        config.reformer.precision.check::<B>(&device)?;
        check_range("--length", length, MOST_TOKENS)?;
        let start_bytes = peak_resident_bytes()?;
        let model = config.init::<B>(&device);
        let (seconds, loss) = time_lm(&model, [1, length], [0, 1], &device)?;
        let peak_bytes = peak_resident_bytes()?;
        let parameters = model.num_params();
        Ok(StepMemory {
            mode: config.reformer.mode,
            layers: config.reformer.n_layers,
            length,
            parameters,
            peak_bytes,
            start_bytes,
            activation_bytes: peak_bytes.saturating_sub(2 * BYTES_OF_F32 * parameters as u64),
            step_seconds: seconds[0],
            loss,
        })
    }
}

fn table(measured: &[StepMemory]) -> Table {
    let mut table = Table::new([
        "mode",
        "layers",
        "peak MiB",
        "without parameters and gradients",
        "growth",
        "seconds",
    ]);
    for step in measured {
        let first = measured.iter().find(|other| other.mode == step.mode);
        let first = first.unwrap_or(step).activation_bytes as f64;
        let mebibytes = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
        table.row([
            name_of(&step.mode).unwrap_or("-").to_owned(),
            step.layers.to_string(),
            mebibytes(step.peak_bytes),
            mebibytes(step.activation_bytes),
            format!(
                "{:.1} %",
                100.0 * (step.activation_bytes as f64 / first - 1.0)
            ),
            format!("{:.1}", step.step_seconds),
        ]);
    }
    table
}
