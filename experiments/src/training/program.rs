//! The way from the flags of a training program to a trained model.

use std::path::{self, Path};
use std::time::Instant;

use anyhow::Result;
use burn::tensor::backend::AutodiffBackend;
use reformer_core::ConfigError;
use reformer_core::kernels::TrainBackend;
use reformer_train::inference::{Codec, TextModel};
use reformer_train::{
    DataConfig, Ending, Pretrained, ResumeOptions, Run, TrainConfig, TrainError, TrainOptions,
    parallel,
};

use super::configuration::{EndArguments, TrainArguments, config, folder};
use crate::cli::device::{self, DeviceName, Job};
use crate::cli::interrupt::{self, Stopped};
use crate::cli::processes;
use crate::cli::shell_argument;
use crate::cli::streams::SavedPipes;
use crate::plot::plot_loss;
use crate::training::announcement::{announce, report};
use crate::training::kind::check_resumed;

/// Tokens of a sample after an evaluation: few, since training waits until they are generated.
const SAMPLE_TOKENS: usize = 120;

/// The parts in which training programs differ.
pub(crate) trait TrainingProgram {
    /// Its name, for commands that a user can copy.
    fn name(&self) -> &'static str;

    /// The preset it starts from by default.
    fn preset(&self) -> &'static str;

    /// The data named by its flags, or else that of the preset.
    ///
    /// # Errors
    /// Flags that contradict each other.
    fn data(&self, preset: DataConfig) -> Result<DataConfig>;

    /// Sets what follows from the kind of data that its flags ask for, and what flags and a model that training starts
    /// from may change, such as the length. Called before [`data`](Self::data), and not if a preset is named, whose
    /// settings then hold.
    fn set_defaults(&self, _config: &mut TrainConfig) {}

    /// Adapts a model to the data, such as the number of classes. Called before `--set`.
    fn fit_model(&self, _config: &mut TrainConfig) -> Result<()> {
        Ok(())
    }

    /// Runs after the training, on the model in the run's folder.
    fn finish(&self, _run: &Run, _device: DeviceName) -> Result<()> {
        Ok(())
    }
}

/// Starts or resumes a run, and trains to its end.
pub(crate) fn train(arguments: TrainArguments, program: &dyn TrainingProgram) -> Result<()> {
    device::run(arguments.device, Train(arguments, program))?;
    // The other processes have waited while the first one worked alone.
    parallel::leave();
    Ok(())
}

struct Train<'a>(TrainArguments, &'a dyn TrainingProgram);

impl Job for Train<'_> {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<()> {
        let Self(arguments, program) = self;
        let group = arguments.processes.join()?;
        let devices = arguments.processes.devices::<B>(device, group.as_ref())?;
        let device = devices[0].clone();
        if let Some(group) = group.as_ref().filter(|group| !group.is_first()) {
            return processes::take_part::<B>(group, &devices, |member| {
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
                check_resumed(run.config(), program.name(), folder)?;
                run
            }
            None => create::<B>(&arguments, program, &device)?,
        };
        let point = run.resume_point::<B>(&device)?;
        for damaged in &point.damaged {
            eprintln!("warning: {damaged}; resuming from an older checkpoint");
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
    program: &dyn TrainingProgram,
    device: &B::Device,
) -> Result<Run> {
    let folder = folder(arguments, program)?;
    let start_from = arguments.init_from.as_deref().map(path::absolute);
    let start_from = start_from.transpose()?;
    let pretrained = start_from.as_deref();
    let pretrained = pretrained.map(|folder| Pretrained::<B>::open(folder, device));
    let pretrained = pretrained.transpose()?;
    let mut saved = SavedPipes::default();
    let model = pretrained.as_ref().map(Pretrained::config);
    let run = config(arguments, program, model, &mut saved, &folder).and_then(|config| {
        config.model.reformer().precision.check::<B>(device)?;
        // Before the run is created, since training could not start with unsuitable weights.
        let reused = pretrained.map(|pretrained| pretrained.start(&config.model, device));
        let reused = reused.transpose()?.map(|(_, reused)| reused);
        let run = Run::create_from(config, &folder, start_from.as_deref());
        let run = run.map_err(named_by_flag)?;
        match reused {
            Some(reused) => println!("Starting from the given weights: {reused}"),
            None => tell_start_of_preset(arguments),
        }
        Ok(run)
    });
    run.inspect_err(|_| saved.remove())
}

/// The error of a setting with the name of its flag, where that is another one.
fn named_by_flag(error: TrainError) -> TrainError {
    match error {
        TrainError::Config(error) if error.field == "window_length" => {
            let field = "--length".to_owned();
            ConfigError { field, ..error }.into()
        }
        other => other,
    }
}

/// Names the weights that a preset's run started from, since its configuration does not contain them.
fn tell_start_of_preset(arguments: &TrainArguments) {
    let preset = arguments.preset.as_deref().map(Path::new);
    let config = preset.filter(|path| path.ends_with("config.json"));
    if let Some(start) = config.and_then(Path::parent).and_then(Run::start_of) {
        let start = shell_argument(&start);
        println!(
            "Starting from random weights; the run of this preset did not: add --init-from {start}"
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
