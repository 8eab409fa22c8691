//! Measures the memory of one training step (forward and backward), by depth and mode.
//!
//! Claim (paper, section 3): reversible layers make the memory of activations independent of the
//! number of layers.

use std::process::{Command, ExitCode};

use crate::cli;
use crate::cli::arguments::{MOST_TOKENS, ModeName, ModelArguments, check_range};
use crate::cli::called;
use crate::cli::device::{self, DeviceName, Job};
use crate::measure::memory::peak_resident_bytes;
use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use clap::Parser;
use reformer_core::kernels::TrainBackend;
use reformer_core::model::{ReformerConfig, ReformerLmConfig, Trainable};
use reformer_core::{Key, Pass};
use serde::{Deserialize, Serialize};

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
const MODES: [ModeName; 2] = [ModeName::Reversible, ModeName::Plain];
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
    /// Measure 4, 8, 16 and 32 layers in reversible and plain mode, each in a process of its own
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
}

/// Result of one process, which does one step.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Measurement {
    mode: String,
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

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments: Arguments = cli::parse();
    cli::main(|| match arguments.sweep {
        true => sweep(&arguments),
        false => {
            let device = arguments.device;
            device::run(device, Measure(arguments))
        }
    })
}

fn config(arguments: &Arguments) -> ReformerLmConfig {
    let mut model = ReformerConfig::new(256, D_MODEL, N_LAYERS)
        .with_n_heads(N_HEADS)
        .with_ff_chunk_length(Some(arguments.ff_chunk_length));
    arguments.model.apply(&mut model);
    ReformerLmConfig::new(model).with_loss_chunk_length(arguments.ff_chunk_length)
}

struct Measure(Arguments);

impl Job for Measure {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<()> {
        let Self(arguments) = self;
        let config = config(&arguments);
        config.validate()?;
        config.reformer.precision.check::<B>(&device)?;
        check_range("--length", arguments.length, MOST_TOKENS)?;
        let start_bytes = peak_resident_bytes()?;
        let model = config.init::<B>(&device);
        let parameters = model.num_params();
        let bytes: Vec<i32> = (0..arguments.length)
            .map(|i| (i * i % 251) as i32)
            .collect();
        let tokens = TensorData::new(bytes, [1, arguments.length]);
        let tokens = Tensor::<B, 2, Int>::from_data(tokens, &device);

        let begin = std::time::Instant::now();
        let pass = Pass::train(Key::new(0));
        let (loss, gradients) = model.gradients((tokens.clone(), tokens), pass);
        let loss = loss
            .loss
            .into_data()
            .iter::<f64>()
            .next()
            .unwrap_or(f64::NAN);
        let step_seconds = begin.elapsed().as_secs_f64();
        let peak_bytes = peak_resident_bytes()?;
        drop((model, gradients)); // Until here they are part of the peak.

        let measurement = Measurement {
            mode: format!("{:?}", config.reformer.mode).to_lowercase(),
            layers: config.reformer.n_layers,
            length: arguments.length,
            parameters,
            peak_bytes,
            start_bytes,
            activation_bytes: peak_bytes.saturating_sub(2 * BYTES_OF_F32 * parameters as u64),
            step_seconds,
            loss,
        };
        print(&[measurement], arguments.json)
    }
}

/// Measures every mode and depth, each in a process of its own.
fn sweep(arguments: &Arguments) -> Result<()> {
    let mut measurements = Vec::new();
    for mode in MODES {
        for layers in LAYERS {
            measurements.push(measure_in_child(layers, mode)?);
        }
    }
    print(&measurements, arguments.json)
}

/// Runs this program again with the other arguments.
fn measure_in_child(layers: usize, mode: ModeName) -> Result<Measurement> {
    let own = std::env::current_exe().context("the path of this program is unknown")?;
    let others = called::arguments().into_iter().skip(1);
    let output = Command::new(own)
        .args(called::words())
        .args(others.filter(|argument| argument != "--sweep" && argument != "--json"))
        .args(["--layers", &layers.to_string(), "--json", "--mode"])
        .arg(mode_flag(mode))
        .output()
        .context("this program cannot be started again")?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{layers} layers in mode {}: {}",
            mode_flag(mode),
            message.trim().trim_start_matches("error: ")
        );
    }
    let [measurement] = serde_json::from_slice::<[Measurement; 1]>(&output.stdout)
        .context("a measurement is not what it should be")?;
    Ok(measurement)
}

fn mode_flag(mode: ModeName) -> String {
    format!("{mode:?}").to_lowercase()
}

fn print(measurements: &[Measurement], as_json: bool) -> Result<()> {
    if as_json {
        println!("{}", serde_json::to_string_pretty(measurements)?);
        return Ok(());
    }
    println!(
        "mode          layers   peak MiB   without parameters and gradients   growth   seconds"
    );
    for measurement in measurements {
        let first = measurements
            .iter()
            .find(|other| other.mode == measurement.mode)
            .unwrap_or(measurement);
        let growth = measurement.activation_bytes as f64 / first.activation_bytes as f64 - 1.0;
        println!(
            "{:12} {:7} {:10.1} {:34.1} {:6.1} % {:9.1}",
            measurement.mode,
            measurement.layers,
            mebibytes(measurement.peak_bytes),
            mebibytes(measurement.activation_bytes),
            100.0 * growth,
            measurement.step_seconds
        );
    }
    Ok(())
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
