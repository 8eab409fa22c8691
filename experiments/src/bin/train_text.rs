//! Trains a language model on the bytes of a text.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::tensor::backend::AutodiffBackend;
use clap::{Args, Parser};
use experiments::allocator::keep_freed_memory;
use experiments::arguments::{ModelArguments, set};
use experiments::cli::{self, shell_argument};
use experiments::device::{self, DeviceName, Job};
use experiments::generation::Generator;
use experiments::plot::plot_loss;
use experiments::preset::Preset;
use experiments::progress::ProgressName;
use experiments::sampling::Sampler;
use experiments::text::Utf8Writer;
use reformer_core::kernels::ReformerBackend;
use reformer_train::{DataConfig, Outcome, Run, TrainConfig};

const EXAMPLES: &str = "\
Examples:
  Two minutes on the sample that ships with the project:
    train_text
  Your own file, a larger model, a GPU:
    train_text --data enwik8 --preset small --device cuda --name my-first
  Go on with a run that was stopped or killed:
    train_text --resume runs/my-first
  Another model:
    train_text --layers 4 --attention local,lsh,lsh --n-rounds 4 --mode exact

A run is written to OUT/NAME: config.json, checkpoint/, metrics.csv, loss.svg, model.mpk, sample.txt.
Values that are not given come from the preset.";

/// Train a Reformer to predict the next byte of a text.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// Text (or any file) to train on: 90 % of it, 5 % validate [default: a sample of Shakespeare]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Size of model and run to start from
    #[arg(long, value_enum, default_value = "tiny")]
    preset: Preset,
    /// Name of the run [default: that of the preset and a number]
    #[arg(long)]
    name: Option<String>,
    /// Folder of runs
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    out: PathBuf,
    /// Go on with the run in this folder, with its own configuration
    #[arg(long, value_name = "RUN", conflicts_with_all = ["data", "preset", "name", "out", "RunArguments", "ModelArguments"])]
    resume: Option<PathBuf>,
    /// Where to compute
    #[arg(long, value_enum, default_value = "flex")]
    device: DeviceName,
    /// How to show progress
    #[arg(long, value_enum, default_value = "auto")]
    progress: ProgressName,
    /// Bytes of text to generate at the end; 0 for none
    #[arg(long, value_name = "N", default_value_t = 300)]
    sample_tokens: usize,
    #[command(flatten)]
    run: RunArguments,
    #[command(flatten)]
    model: ModelArguments,
}

/// Changes to the training.
#[derive(Debug, Args)]
#[command(next_help_heading = "Training")]
struct RunArguments {
    /// Steps of the whole run
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Steps between validations, after each of which there is a checkpoint
    #[arg(long, value_name = "N")]
    steps_per_epoch: Option<usize>,
    /// Windows in a validation; all when left out with --data
    #[arg(long, value_name = "N")]
    eval_windows: Option<usize>,
    /// Windows in a step
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Bytes in a window
    #[arg(long, value_name = "N")]
    length: Option<usize>,
    /// Highest learning rate
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    learning_rate: Option<f64>,
    /// Steps until it is reached
    #[arg(long, value_name = "N")]
    warmup_steps: Option<usize>,
    /// From which weights, data order, dropout and hashing follow
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    keep_freed_memory();
    cli::main(|| {
        let device = arguments.device;
        device::run(device, Train(arguments))
    })
}

struct Train(Arguments);

impl Job for Train {
    fn run<B>(self, device: B::Device) -> Result<()>
    where
        B: AutodiffBackend + ReformerBackend,
        B::InnerBackend: ReformerBackend,
    {
        let Self(arguments) = self;
        let run = match &arguments.resume {
            Some(folder) => Run::resume(folder)?,
            None => Run::create(config(&arguments)?, folder(&arguments)?)?,
        };
        let config = run.config();
        let point = run.resume_point::<B>(&device)?;
        for damaged in &point.damaged {
            eprintln!("warning: {damaged}; going on from an older checkpoint");
        }
        announce::<B>(&run, point.epoch, &device);
        let started = Instant::now();
        let done = config.steps_until(point.epoch);
        let screen = arguments.progress.screen(done, config.steps);
        let outcome = run.train::<B, _>(&device, point.epoch, screen)?;
        plot_loss(&run.rows()?, &run.folder().join("loss.svg"))?;
        report(&run, &outcome, started);
        if outcome.stopped.is_none() && arguments.sample_tokens > 0 {
            let generator = Generator::new(outcome.model, config, device);
            sample(&generator, &run, arguments.sample_tokens)?;
        }
        println!(
            "\nGo on writing with:\n  {}",
            generate_command(run.folder())
        );
        Ok(())
    }
}

/// The configuration that the arguments describe.
fn config(arguments: &Arguments) -> Result<TrainConfig> {
    let mut config = arguments.preset.config();
    let run = &arguments.run;
    if let Some(path) = &arguments.data {
        let absolute = std::path::absolute(path)
            .with_context(|| format!("`{}` is no path", path.display()))?;
        config.data = DataConfig::File(absolute);
    }
    set(&mut config.steps, run.steps);
    set(&mut config.steps_per_epoch, run.steps_per_epoch);
    set(&mut config.batch_size, run.batch_size);
    set(&mut config.window_length, run.length);
    set(&mut config.learning_rate, run.learning_rate);
    set(&mut config.warmup_steps, run.warmup_steps);
    set(&mut config.seed, run.seed);
    config.eval_windows = run.eval_windows.or(config.eval_windows);
    arguments.model.apply(&mut config.model.reformer);
    Ok(config)
}

/// The folder of a new run.
fn folder(arguments: &Arguments) -> Result<PathBuf> {
    if let Some(name) = &arguments.name {
        let is_one_part = Path::new(name).components().count() == 1;
        if !is_one_part || name.starts_with('.') {
            bail!("`{name}` is no name for a run: use letters, digits and `-`");
        }
        return Ok(arguments.out.join(name));
    }
    let numbered = |n: usize| {
        arguments
            .out
            .join(format!("{}-{n}", arguments.preset.name()))
    };
    let free = (1..).map(numbered).find(|folder| !folder.exists());
    free.context("no name is left for the run: give one by --name")
}

fn announce<B: AutodiffBackend>(run: &Run, epoch: usize, device: &B::Device) {
    let config = run.config();
    let n_params = config.model.init::<B>(device).num_params();
    let data = match &config.data {
        DataConfig::Sample => "the sample (Shakespeare)".to_owned(),
        DataConfig::File(path) => path.display().to_string(),
    };
    println!(
        "Training {n_params} parameters on {data}: {} steps of {} windows of {} bytes",
        config.steps, config.batch_size, config.window_length
    );
    if epoch > 0 {
        println!("Resuming after step {}", config.steps_until(epoch));
    }
    println!(
        "Writing to {}; if it stops, go on with:\n  {}",
        run.folder().display(),
        resume_command(run.folder())
    );
}

fn report<B: ReformerBackend>(run: &Run, outcome: &Outcome<B>, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    if let Some(reason) = &outcome.stopped {
        println!(
            "\nStopped: {reason} Go on with:\n  {}",
            resume_command(run.folder())
        );
    }
    if let Some(last) = outcome.valid.last() {
        println!(
            "\nAfter step {} and {seconds:.0} s: {:.3} bits per byte on held-out text, {:.1} % of \
             its bytes predicted\nWritten to {}",
            last.step,
            last.bits_per_byte,
            last.accuracy,
            run.folder().display()
        );
    }
}

/// Prints a generated text and keeps it.
fn sample<B: ReformerBackend>(generator: &Generator<B>, run: &Run, n_bytes: usize) -> Result<()> {
    let prompt = b"\n";
    let mut bytes = Vec::new();
    let mut writer = Utf8Writer::new(stdout());
    let mut sampler = Sampler::new(0.8, None, run.config().seed)?;
    println!("\nA sample:");
    generator.generate(prompt, n_bytes, &mut sampler, |byte| {
        bytes.push(byte);
        Ok(writer.push(byte)?)
    })?;
    writer.finish()?;
    writeln!(stdout())?;
    let path = run.folder().join("sample.txt");
    std::fs::write(&path, &bytes).with_context(|| format!("`{}` cannot be written", path.display()))
}

fn resume_command(folder: &Path) -> String {
    format!(
        "cargo run --release -p experiments --bin train_text -- --resume {}",
        shell_argument(folder)
    )
}

fn generate_command(folder: &Path) -> String {
    format!(
        "cargo run --release -p experiments --bin generate_text -- --checkpoint {} --prompt 'ROMEO:'",
        shell_argument(folder)
    )
}
