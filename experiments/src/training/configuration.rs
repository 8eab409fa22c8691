//! Flags of training programs, and the configuration and the folder of the run that they ask for.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use reformer_train::{ModelConfig, OptimizerConfig, TrainConfig};

use super::kind::check_new;
use super::program::TrainingProgram;
use crate::cli::arguments::{ModelArguments, finite, set};
use crate::cli::device::DeviceName;
use crate::cli::named::named;
use crate::cli::overrides;
use crate::cli::preset;
use crate::cli::processes::ProcessArguments;
use crate::cli::progress::ProgressName;
use crate::cli::streams::SavedPipes;

/// Flags of every training program.
#[derive(Debug, Args)]
pub(crate) struct TrainArguments {
    /// Configuration to start from: a preset's name, or a JSON or TOML file such as a run's config.json
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) preset: Option<String>,
    /// Change any setting of the configuration, by its path in config.json; can be repeated, for other settings
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Name of the run [default: that of the preset and a number]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Folder of runs
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    pub(crate) out: PathBuf,
    /// Start from the weights of a run or of a Hugging Face folder, with a new optimizer; without --preset the model
    /// is built like the one there
    #[arg(long, value_name = "RUN|FOLDER")]
    pub(crate) init_from: Option<PathBuf>,
    /// Resume the run in this folder, with its own configuration; --steps makes it longer
    #[arg(long, value_name = "RUN", conflicts_with_all = ["preset", "sets", "name", "out", "init_from", "RunArguments", "ModelArguments"])]
    pub(crate) resume: Option<PathBuf>,
    /// Backend to compute on
    #[arg(long, value_enum, default_value = "flex")]
    pub(crate) device: DeviceName,
    /// Display of progress
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) progress: ProgressName,
    /// Write curves for TensorBoard as well, into the run's folder; a resumed run continues them in any case
    #[arg(long)]
    pub(crate) tensorboard: bool,
    #[command(flatten)]
    pub(super) processes: ProcessArguments,
    #[command(flatten)]
    pub(super) end: EndArguments,
    #[command(flatten)]
    run: RunArguments,
    #[command(flatten)]
    model: ModelArguments,
}

/// Flags for the end of a training, which may change when it is resumed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Training")]
pub(super) struct EndArguments {
    /// Number of steps of the whole run
    #[arg(long, value_name = "N")]
    pub(super) steps: Option<usize>,
    /// Stop after this many evaluations in a row without a better loss [default: never]
    #[arg(long, value_name = "N")]
    pub(super) patience: Option<usize>,
}

/// Flags that change a training.
#[derive(Debug, Args)]
#[command(next_help_heading = "Training")]
struct RunArguments {
    /// Steps between evaluations
    #[arg(long, value_name = "N")]
    steps_per_epoch: Option<usize>,
    /// Steps between checkpoints [default: one after each evaluation]
    #[arg(long, value_name = "N")]
    checkpoint_every: Option<usize>,
    /// Sequences in an evaluation
    #[arg(long, value_name = "N")]
    eval_windows: Option<usize>,
    /// Sequences in a step
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Parts into which a batch is divided, computed one after the other: less memory, the same
    /// result
    #[arg(long, value_name = "N")]
    accumulate: Option<usize>,
    /// Tokens in a sequence
    #[arg(long, value_name = "N")]
    length: Option<usize>,
    /// Tokens by which sequences of a text overlap in an evaluation, as context
    /// [default: none]
    #[arg(long, value_name = "N")]
    eval_context: Option<usize>,
    /// Optimizer, with its usual settings
    #[arg(long, value_parser = named::<OptimizerConfig>())]
    optimizer: Option<OptimizerConfig>,
    /// Highest learning rate
    #[arg(long, value_name = "RATE", value_parser = finite)]
    learning_rate: Option<f64>,
    /// Steps over which the learning rate rises
    #[arg(long, value_name = "N")]
    warmup_steps: Option<usize>,
    /// Seed of weights, data order, dropout and hashing
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// The configuration from the arguments, for a run in this folder. Without a preset, the model is
/// built like the one that it starts from.
pub(super) fn config(
    arguments: &TrainArguments,
    program: &dyn TrainingProgram,
    pretrained: Option<&ModelConfig>,
    saved: &mut SavedPipes,
    folder: &Path,
) -> Result<TrainConfig> {
    let name = arguments.preset.as_deref().unwrap_or(program.preset());
    let mut config = of_library(preset::load_or_read(name, program.preset())?)?;
    if arguments.preset.is_none() {
        program.set_defaults(&mut config);
        if let Some(model) = pretrained {
            build_as(&mut config.model, model);
        }
    }
    config.data = saved.save(program.data(config.data)?, folder)?;
    let run = &arguments.run;
    set(&mut config.steps, arguments.end.steps);
    set(&mut config.steps_per_epoch, run.steps_per_epoch);
    set(&mut config.batch_size, run.batch_size);
    set(&mut config.accumulate, run.accumulate);
    set(&mut config.window_length, run.length);
    set(&mut config.seed, run.seed);
    set(&mut config.optimizer, run.optimizer);
    if let Some(rate) = run.learning_rate {
        config.schedule.set_rate(rate);
    }
    if let Some(steps) = run.warmup_steps {
        config.schedule.set_warmup_steps(steps);
    }
    config.checkpoint_every = run.checkpoint_every.or(config.checkpoint_every);
    config.patience = arguments.end.patience.or(config.patience);
    config.eval_windows = run.eval_windows.or(config.eval_windows);
    config.eval_context = run.eval_context.or(config.eval_context);
    arguments.model.apply(config.model.reformer_mut());
    program.fit_model(&mut config)?;
    let config = of_library(overrides::apply_flags(config, &arguments.sets)?)?;
    check_new(&config, program.name())?;
    Ok(config)
}

/// Refuses a model that only another program can make.
fn of_library(config: TrainConfig) -> Result<TrainConfig> {
    match &config.model {
        ModelConfig::Own(own) => bail!("`{}` is trained by the program that made it", own.name),
        _ => Ok(config),
    }
}

/// Builds a model like another one. For another task, it keeps the vocabulary and the attention mask (causal or
/// bidirectional) that the task needs.
fn build_as(own: &mut ModelConfig, other: &ModelConfig) {
    let task = own.reformer().clone();
    let is_same_kind = own.name() == other.name();
    match is_same_kind {
        true => *own = other.clone(),
        false => *own.reformer_mut() = other.reformer().clone(),
    }
    let reformer = own.reformer_mut();
    if !is_same_kind || reformer.causal != task.causal {
        reformer.vocab_size = task.vocab_size;
        reformer.causal = task.causal;
        reformer.local.after = task.local.after;
    }
}

/// The folder of a new run.
///
/// # Errors
/// A name that is no single part of a path.
pub(super) fn folder(arguments: &TrainArguments, program: &dyn TrainingProgram) -> Result<PathBuf> {
    if let Some(name) = &arguments.name {
        let is_one_part = Path::new(name).components().count() == 1;
        if !is_one_part || name.starts_with('.') {
            bail!("`{name}` is not a name for a run: use letters, digits and `-`");
        }
        return Ok(arguments.out.join(name));
    }
    let preset = Path::new(arguments.preset.as_deref().unwrap_or(program.preset()));
    let stem = preset.file_stem().unwrap_or_default().to_string_lossy();
    let numbered = |n: usize| arguments.out.join(format!("{stem}-{n}"));
    let free = (1..).map(numbered).find(|folder| !folder.exists());
    free.context("no name is left for the run: give one by --name")
}
