//! Code that all training programs share: flags, and the way from them to a trained model.

use std::path::{self, Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::tensor::backend::AutodiffBackend;
use clap::Args;
use reformer_core::kernels::TrainBackend;
use reformer_train::inference::{Codec, TextModel};
use reformer_train::{
    DataConfig, Ending, ModelConfig, Pretrained, ResumeOptions, Run, TrainConfig, TrainError,
    TrainOptions, parallel,
};

use crate::cli::arguments::{ModelArguments, OptimizerName, finite, set};
use crate::cli::device::{self, DeviceName, Job};
use crate::cli::interrupt::{self, Stopped};
use crate::cli::overrides;
use crate::cli::preset;
use crate::cli::processes::{self, ProcessArguments};
use crate::cli::progress::ProgressName;
use crate::cli::shell_argument;
use crate::cli::streams::Kept;
use crate::plot::plot_loss;
use crate::training::announcement::{announce, report};

/// Tokens of a sample after an evaluation: few, since training waits until they are generated.
const SAMPLE_TOKENS: usize = 120;

/// Flags of every training program.
#[derive(Debug, Args)]
pub struct TrainArguments {
    /// Configuration to start from: a preset's name, or a JSON or TOML file such as a run's config.json
    #[arg(long, value_name = "NAME|FILE")]
    pub preset: Option<String>,
    /// Change any setting of the configuration, by its path in config.json; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Name of the run [default: that of the preset and a number]
    #[arg(long)]
    pub name: Option<String>,
    /// Folder of runs
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    pub out: PathBuf,
    /// Start from the weights of a run or of a Hugging Face folder, with a new optimizer; without --preset the model
    /// is built like the one there
    #[arg(long, value_name = "RUN|FOLDER")]
    pub init_from: Option<PathBuf>,
    /// Resume the run in this folder, with its own configuration; --steps makes it longer
    #[arg(long, value_name = "RUN", conflicts_with_all = ["preset", "sets", "name", "out", "init_from", "RunArguments", "ModelArguments"])]
    pub resume: Option<PathBuf>,
    /// Backend to compute on
    #[arg(long, value_enum, default_value = "flex")]
    pub device: DeviceName,
    /// Display of progress
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: ProgressName,
    /// Write curves for TensorBoard as well, into the run's folder; a resumed run continues them in any case
    #[arg(long)]
    pub tensorboard: bool,
    #[command(flatten)]
    processes: ProcessArguments,
    #[command(flatten)]
    end: EndArguments,
    #[command(flatten)]
    run: RunArguments,
    #[command(flatten)]
    model: ModelArguments,
}

/// Flags for the end of a training, which may change when it is resumed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Training")]
struct EndArguments {
    /// Number of steps of the whole run
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Stop after this many evaluations in a row without a better loss [default: never]
    #[arg(long, value_name = "N")]
    patience: Option<usize>,
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
    #[arg(long, value_enum)]
    optimizer: Option<OptimizerName>,
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

/// The parts in which training programs differ.
pub trait Program {
    /// Its name, for commands that a user can copy.
    fn name(&self) -> &'static str;

    /// The preset it starts from by default.
    fn preset(&self) -> &'static str;

    /// The data named by its flags, or else that of the preset.
    ///
    /// # Errors
    /// Flags that contradict each other.
    fn data(&self, preset: DataConfig) -> Result<DataConfig>;

    /// Sets what follows from the data and flags may change, such as the length. Not called if a preset is named,
    /// whose settings then hold.
    fn set_defaults(&self, _config: &mut TrainConfig) {}

    /// Adapts a model to the data, such as the number of classes. Called before `--set`.
    ///
    /// # Errors
    /// Data that cannot be read.
    fn fit_model(&self, _config: &mut TrainConfig) -> Result<()> {
        Ok(())
    }

    /// Runs after the training, on the model in the run's folder.
    ///
    /// # Errors
    /// Any error of that work.
    fn finish(&self, _run: &Run, _device: DeviceName) -> Result<()> {
        Ok(())
    }
}

/// Starts or resumes a run, and trains to its end.
///
/// # Errors
/// A configuration, data, a device or a folder that cannot be used.
pub fn train(arguments: TrainArguments, program: &dyn Program) -> Result<()> {
    device::run(arguments.device, Train(arguments, program))?;
    // The other processes have waited while the first one worked alone.
    parallel::leave();
    Ok(())
}

struct Train<'a>(TrainArguments, &'a dyn Program);

impl Job for Train<'_> {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<()> {
        let Self(arguments, program) = self;
        let group = arguments.processes.join()?;
        let devices = arguments.processes.devices::<B>(device, group.as_ref())?;
        let device = devices[0].clone();
        if let Some(group) = group.as_ref().filter(|group| !group.is_first()) {
            return processes::help::<B>(group, &devices, |member| {
                with_samples(TrainOptions::silent(), member.config(), None)
            });
        }
        let run = match &arguments.resume {
            Some(folder) => {
                let EndArguments { steps, patience } = arguments.end;
                let options = ResumeOptions::new()
                    .with_steps(steps)
                    .with_patience(patience);
                let run = Run::resume_with(folder, &options)?;
                preset::check_kind(run.config(), program.preset())?;
                run
            }
            None => create::<B>(&arguments, program, &device)?,
        };
        let point = run.resume_point::<B>(&device)?;
        for damaged in &point.damaged {
            eprintln!("warning: {damaged}; going on from an older checkpoint");
        }
        announce::<B>(&run, program, point.step, &device)?;
        let started = Instant::now();
        let progress = arguments.progress;
        let is_launched = group.is_some();
        let screen = progress.screen(point.step, run.config(), is_launched);
        let options = TrainOptions::new(screen);
        let mut options = with_samples(options, run.config(), Some(run.folder()));
        interrupt::on_signals(options.interrupter.clone(), is_launched)?;
        options.tensorboard = arguments.tensorboard;
        options.group = group;
        options.sharing = arguments.processes.sharing();
        let outcome = run.train_on::<B, _>(&devices, point.step, options)?;
        plot(&run);
        report(&run, program, &outcome, started);
        match outcome.ending {
            // Launchers stop all processes when one of them fails.
            Ending::Interrupted(_) if is_launched => Ok(()),
            Ending::Interrupted(_) => Err(Stopped.into()),
            Ending::Finished | Ending::Early => {
                interrupt::end_at_once();
                measured(program.finish(&run, arguments.device))
            }
        }
    }
}

/// Samples text from a language model after each evaluation. Of several processes the last one does it, without the run's
/// folder.
fn with_samples<B, R>(
    options: TrainOptions<B, R>,
    config: &TrainConfig,
    folder: Option<&Path>,
) -> TrainOptions<B, R>
where
    B: TrainBackend,
{
    if !config.continues_texts() {
        return options;
    }
    let codec = match folder {
        Some(folder) => Codec::of_run(folder, config),
        None => Codec::of_member(config),
    };
    let Ok(codec) = codec else {
        return options;
    };
    let config = config.clone();
    options.with_samples(move |model| {
        let model = model.clone().into_lm().ok()?;
        let model = TextModel::of_run(model, codec.clone(), &config);
        model.sample(SAMPLE_TOKENS, config.seed).ok()
    })
}

/// A training is still good if its data has nothing to measure on: that is only reported.
fn measured(finished: Result<()>) -> Result<()> {
    match finished {
        Err(error)
            if matches!(
                error.downcast_ref(),
                Some(TrainError::NothingToMeasure { .. })
            ) =>
        {
            println!("\nNothing was measured: {error:#}");
            Ok(())
        }
        finished => finished,
    }
}

/// Creates a new run.
fn create<B: AutodiffBackend>(
    arguments: &TrainArguments,
    program: &dyn Program,
    device: &B::Device,
) -> Result<Run> {
    let folder = folder(arguments, program)?;
    let start_from = arguments.init_from.as_deref().map(path::absolute);
    let start_from = start_from.transpose()?;
    let pretrained = start_from.as_deref();
    let pretrained = pretrained.map(|folder| Pretrained::<B>::open(folder, device));
    let pretrained = pretrained.transpose()?;
    let mut kept = Kept::default();
    let model = pretrained.as_ref().map(Pretrained::config);
    let run = config(arguments, program, model, &mut kept, &folder).and_then(|config| {
        config.model.reformer().precision.check::<B>(device)?;
        // Before the run is created, since training could not start with unsuitable weights.
        let taken = pretrained.map(|pretrained| pretrained.start(&config.model, device));
        let taken = taken.transpose()?.map(|(_, taken)| taken);
        let run = Run::create_from(config, &folder, start_from.as_deref())?;
        match taken {
            Some(taken) => println!("Starting from other weights: {taken}"),
            None => tell_start_of_preset(arguments),
        }
        Ok(run)
    });
    run.inspect_err(|_| kept.remove())
}

/// Names the weights that a preset's run started from, since its configuration does not contain them.
fn tell_start_of_preset(arguments: &TrainArguments) {
    let preset = arguments.preset.as_deref().map(Path::new);
    let config = preset.filter(|path| path.ends_with("config.json"));
    if let Some(start) = config.and_then(Path::parent).and_then(Run::start_of) {
        let start = shell_argument(&start);
        println!(
            "Starting from random weights; the run of this preset started from others: --init-from {start}"
        );
    }
}

/// Plots the curves of a run, if it has any.
fn plot(run: &Run) {
    let draw = || {
        let (rows, token_name) = (run.rows()?, run.config().data.token_name());
        match rows.is_empty() {
            true => Ok(()),
            false => plot_loss(&rows, token_name, &run.folder().join("loss.svg")),
        }
    };
    if let Err(error) = draw() {
        // The trained model exists all the same.
        eprintln!("warning: {error:#}");
    }
}

/// The configuration from the arguments, for a run in this folder. Without a preset, the model is
/// built like the one that it starts from.
fn config(
    arguments: &TrainArguments,
    program: &dyn Program,
    pretrained: Option<&ModelConfig>,
    kept: &mut Kept,
    folder: &Path,
) -> Result<TrainConfig> {
    let name = arguments.preset.as_deref().unwrap_or(program.preset());
    let mut config = of_library(preset::load_or_read(name, program.preset())?)?;
    if let Some(model) = pretrained.filter(|_| arguments.preset.is_none()) {
        build_as(&mut config.model, model);
    }
    config.data = kept.keep(program.data(config.data)?, folder)?;
    if arguments.preset.is_none() {
        program.set_defaults(&mut config);
    }
    let run = &arguments.run;
    set(&mut config.steps, arguments.end.steps);
    set(&mut config.steps_per_epoch, run.steps_per_epoch);
    set(&mut config.batch_size, run.batch_size);
    set(&mut config.accumulate, run.accumulate);
    set(&mut config.window_length, run.length);
    set(&mut config.seed, run.seed);
    set(
        &mut config.optimizer,
        run.optimizer.map(OptimizerName::config),
    );
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
    of_library(overrides::apply(config, &arguments.sets)?)
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
fn folder(arguments: &TrainArguments, program: &dyn Program) -> Result<PathBuf> {
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
