//! A run: configuration, data and folder, from the first step to the last.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use burn::record::Recorder;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::train::Interrupter;
use burn::train::renderer::MetricsRenderer;
use reformer_core::kernels::ReformerBackend;

use crate::checkpoint::{Best, Checkpoints, ResumePoint};
use crate::config::TrainConfig;
use crate::console::tell;
use crate::data::{AskedQuestions, Content, Data, DataReport};
use crate::error::TrainError;
use crate::fit::Fit;
use crate::log::{Row, read_rows};
use crate::model::Model;
use crate::page::Page;
use crate::pairs::Pairs;
use crate::parallel::Coordinator;
use crate::record::{AtomicRecorder, Failure, write_atomically};
use crate::screen::{Screen, Silent};
use crate::strategy::Ending;
use crate::task::Task;

/// A run: its configuration, its data and its folder.
#[derive(Debug)]
pub struct Run {
    config: TrainConfig,
    folder: PathBuf,
    data: Data,
}

/// What a run ended with.
#[derive(Debug)]
pub struct Outcome<B: Backend> {
    /// The trained model.
    pub model: Model<B>,
    /// All validations so far, the last one last.
    pub valid: Vec<Row>,
    /// The best of them.
    pub best: Option<Best>,
    /// How it came to its end.
    pub ending: Ending,
}

/// Who is told of what goes wrong without ending a run.
pub type Warn = fn(&TrainError);

/// Writes a text by a model, to show how far it is.
pub type WriteSample<B> = Arc<dyn Fn(&Model<B>) -> Option<String>>;

/// What the weights that a training ends with do not depend on.
pub struct TrainOptions<B: AutodiffBackend, R = Silent> {
    /// Where progress is shown.
    pub screen: Screen<R>,
    /// Stops the run after the step that is being computed, which is then saved.
    pub interrupter: Interrupter,
    /// Is told of what goes wrong without ending the run: a checkpoint that cannot be written, a
    /// step that was left out.
    pub warn: Warn,
    /// Is asked for a text after each evaluation, for `samples.jsonl` and the page of the run.
    pub write: Option<WriteSample<B::InnerBackend>>,
    /// Waits for other processes to train with; the run begins when they are there.
    pub coordinator: Option<Coordinator>,
}

impl<B: AutodiffBackend, R> TrainOptions<B, R> {
    /// Shows progress on a screen, and warnings on the standard error output.
    pub fn new(screen: Screen<R>) -> Self {
        Self {
            screen,
            interrupter: Interrupter::new(),
            warn: |error| tell(&format!("warning: {}; the run goes on", with_causes(error))),
            write: None,
            coordinator: None,
        }
    }

    /// Asks for a text after each evaluation. It takes the time that the function takes.
    pub fn with_samples(
        mut self,
        write: impl Fn(&Model<B::InnerBackend>) -> Option<String> + 'static,
    ) -> Self {
        self.write = Some(Arc::new(write));
        self
    }
}

/// An error and what led to it, in one line.
fn with_causes(error: &TrainError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

impl<B: AutodiffBackend> TrainOptions<B> {
    /// Shows no progress.
    pub fn silent() -> Self {
        Self::new(Screen::silent())
    }
}

impl Run {
    /// Starts a run: checks the configuration, reads the data, then makes the folder and writes
    /// the configuration into it. On an error nothing is left behind.
    ///
    /// # Errors
    /// A setting or data that cannot work, a folder that exists or cannot be written.
    pub fn create(config: TrainConfig, folder: impl Into<PathBuf>) -> Result<Self, TrainError> {
        let run = Self::open(config, folder.into())?;
        let json = serde_json::to_string_pretty(&run.config).map_err(io::Error::other);
        let write = |json: String| -> io::Result<()> {
            if let Some(parent) = run.folder.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::create_dir(&run.folder)?;
            write_atomically(&run.config_path(), |file| file.write_all(json.as_bytes()))
        };
        match json.and_then(write) {
            Ok(()) => {
                run.data.save_names(&run.folder)?;
                Ok(run)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(TrainError::RunExists { path: run.folder })
            }
            Err(source) => Err(TrainError::Write {
                path: run.folder,
                source,
            }),
        }
    }

    /// Goes back to a run: reads its configuration and its data.
    ///
    /// # Errors
    /// A folder that is not one of a run, or data that is not there any more.
    pub fn resume(folder: impl Into<PathBuf>) -> Result<Self, TrainError> {
        let folder = folder.into();
        let config = read_config(&folder)?;
        Self::open(config, folder)
    }

    fn open(config: TrainConfig, folder: PathBuf) -> Result<Self, TrainError> {
        config.validate()?;
        let data = config.data.open(&config, Some(&folder))?;
        data.check(&config)?;
        Ok(Self {
            config,
            folder,
            data,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The rows of `metrics.csv`.
    ///
    /// # Errors
    /// A file that is missing or of another form.
    pub fn rows(&self) -> Result<Vec<Row>, TrainError> {
        read_rows(&self.metrics_path())
    }

    /// The pairs of sentences that it trains on, if it does.
    pub fn pairs(&self) -> Option<&Pairs> {
        match self.data.content() {
            Content::Pairs(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// The questions that it trains on, if it does.
    pub fn questions(&self) -> Option<&AskedQuestions> {
        match self.data.content() {
            Content::Questions(questions) => Some(questions),
            _ => None,
        }
    }

    /// What was read of its data.
    pub fn data_report(&self) -> &DataReport {
        self.data.report()
    }

    pub(crate) fn data(&self) -> &Data {
        &self.data
    }

    fn config_path(&self) -> PathBuf {
        self.folder.join("config.json")
    }

    fn metrics_path(&self) -> PathBuf {
        self.folder.join("metrics.csv")
    }

    /// The page of the run, computed on a device.
    pub(crate) fn page<B: Backend>(&self, device: &B::Device) -> Page {
        Page::new(self.folder.clone(), self.config.clone(), B::name(device))
    }

    /// Finds the newest checkpoint that is complete and can be read.
    ///
    /// # Errors
    /// If there are complete checkpoints, but not one can be read.
    pub fn resume_point<B>(&self, device: &B::Device) -> Result<ResumePoint, TrainError>
    where
        B: AutodiffBackend + ReformerBackend,
        B::InnerBackend: ReformerBackend,
    {
        self.check_device::<B>(device)?;
        let checkpoints = Checkpoints::of_run(&self.folder);
        checkpoints.newest_readable::<B, Task<B>>(&self.config.optimizer, device)
    }

    /// Trains from a step (0: from the start) to the end of the run, and writes the weights to
    /// `model.mpk`.
    ///
    /// # Errors
    /// A file that cannot be read, final weights that cannot be written, or a loss that is no
    /// number.
    ///
    /// # Panics
    /// If the checkpoint of that step cannot be read: ask [`resume_point`](Self::resume_point).
    pub fn train<B, R>(
        &self,
        device: &B::Device,
        step: usize,
        options: TrainOptions<B, R>,
    ) -> Result<Outcome<B::InnerBackend>, TrainError>
    where
        B: AutodiffBackend + ReformerBackend,
        B::InnerBackend: ReformerBackend,
        R: MetricsRenderer + 'static,
    {
        self.train_on::<B, R>(core::slice::from_ref(device), step, options)
    }

    /// As [`train`](Self::train), with each device computing some rows of each batch. What the first
    /// one holds beside is the optimizer.
    ///
    /// # Errors
    /// The same, and fewer sequences in a batch than there are devices, or a
    /// [coordinator](TrainOptions::coordinator) whose nodes do not come or get lost.
    ///
    /// # Panics
    /// Without a device, or if the checkpoint of that step cannot be read.
    pub fn train_on<B, R>(
        &self,
        devices: &[B::Device],
        step: usize,
        options: TrainOptions<B, R>,
    ) -> Result<Outcome<B::InnerBackend>, TrainError>
    where
        B: AutodiffBackend + ReformerBackend,
        B::InnerBackend: ReformerBackend,
        R: MetricsRenderer + 'static,
    {
        for device in devices {
            self.check_device::<B>(device)?;
        }
        let fit = Fit {
            run: self,
            devices,
            step,
            options,
        };
        fit.run()
    }

    /// Checks what a configuration asks of the device.
    fn check_device<B: Backend>(&self, device: &B::Device) -> Result<(), TrainError> {
        Ok(self.config.model.reformer().precision.check::<B>(device)?)
    }

    /// Keeps the weights of a run that came to its end.
    pub(crate) fn finish<B: Backend>(
        &self,
        model: Model<B>,
        ending: Ending,
        best: Option<Best>,
    ) -> Result<Outcome<B>, TrainError> {
        if !matches!(ending, Ending::Interrupted(_)) {
            let failure = Failure::default();
            let recorder = AtomicRecorder::with_failure(failure.clone());
            let record = model.clone().into_record();
            let saved = Recorder::<B>::record(&recorder, record, model_path(&self.folder));
            if let (Err(_), Some(error)) = (saved, failure.take()) {
                return Err(error);
            }
        }
        let mut valid = self.rows()?;
        valid.retain(|row| row.split == "valid");
        Ok(Outcome {
            model,
            valid,
            best,
            ending,
        })
    }
}

fn model_path(folder: &Path) -> PathBuf {
    folder.join("model")
}

fn read_config(folder: &Path) -> Result<TrainConfig, TrainError> {
    let path = folder.join("config.json");
    let text = fs::read_to_string(&path).map_err(|source| TrainError::NoRun {
        path: folder.to_owned(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|source| TrainError::BadConfig { path, source })
}

/// Loads the model of a run, finished or not, and its configuration: the final weights if there
/// are any, else those of the newest complete checkpoint.
///
/// # Errors
/// A folder that is not one of a run, no weights, or weights that cannot be read.
pub fn load_model<B: Backend>(
    folder: &Path,
    device: &B::Device,
) -> Result<(Model<B>, TrainConfig), TrainError> {
    let config = read_config(folder)?;
    config.validate()?;
    config.model.reformer().precision.check::<B>(device)?;
    let model = config.model.init::<B>(device);
    let path = model_path(folder);
    let checkpoints = Checkpoints::of_run(folder);
    let newest = checkpoints.complete().first().copied();
    let model = match newest {
        Some(step) if !AtomicRecorder::file(&path).exists() => {
            let task = Task::new(model, config.seed);
            let record = AtomicRecorder::load_named::<B, _>(&checkpoints.model(step), device)?;
            task.load_record(record).model
        }
        _ => model.load_record(AtomicRecorder::load_named::<B, _>(&path, device)?),
    };
    Ok((model, config))
}
