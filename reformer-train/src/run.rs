//! A run: configuration, data and folder, from the first step to the last.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use burn::optim::{AdamConfig, AdamWConfig, Optimizer};
use burn::record::Recorder;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::train::checkpoint::KeepLastNCheckpoints;
use burn::train::renderer::MetricsRenderer;
use burn::train::renderer::tui::TuiMetricsRendererWrapper;
use burn::train::{Interrupter, Learner, SupervisedTraining};
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::ReformerLm;
use reformer_core::reversible::Mode;
use reformer_datasets::{EvalLoader, EvalLoaderConfig, Splits, TrainLoader, TrainLoaderConfig};

use crate::checkpoint::{Checkpoints, ResumePoint};
use crate::clip::ClipByGlobalNorm;
use crate::config::{OptimizerConfig, TrainConfig};
use crate::error::TrainError;
use crate::loader::UpTo;
use crate::log::{CsvLog, Row, read_rows};
use crate::metric::{LmMetric, Quantity};
use crate::record::{AtomicRecorder, Failure, write_atomically};
use crate::screen::Screen;
use crate::task::LmTask;

/// Checkpoints that are kept. Two, because the older one is the last resort while the newer one
/// is being written.
const KEPT_CHECKPOINTS: usize = 2;
/// Rows of `metrics.csv` about training, in a run.
const TRAIN_ROWS: usize = 500;

/// A run: its configuration, its data and its folder.
#[derive(Debug)]
pub struct Run {
    config: TrainConfig,
    folder: PathBuf,
    splits: Splits,
}

/// What a run ended with.
#[derive(Debug)]
pub struct Outcome<B: Backend> {
    /// The trained model.
    pub model: ReformerLm<B>,
    /// All validations so far, the last one last.
    pub valid: Vec<Row>,
    /// Why it was stopped before its end, if it was.
    pub stopped: Option<String>,
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
            Ok(()) => Ok(run),
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
        let splits = config.data.open()?.split();
        Ok(Self {
            config,
            folder,
            splits,
        }
        .with_checked_data()?)
    }

    /// Windows have to fit into both splits. Which backend asks makes no difference.
    fn with_checked_data(self) -> Result<Self, TrainError> {
        for split in [&self.splits.train, &self.splits.valid] {
            reformer_datasets::ByteWindows::new(split, self.config.window_length)?;
        }
        Ok(self)
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

    fn config_path(&self) -> PathBuf {
        self.folder.join("config.json")
    }

    fn metrics_path(&self) -> PathBuf {
        self.folder.join("metrics.csv")
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
        let checkpoints = Checkpoints::of_run(&self.folder);
        self.with_optimizer::<B, _>(Locate {
            checkpoints,
            device,
        })
    }

    /// Trains from the end of an epoch (0: from the start) to the end of the run, and writes the
    /// weights to `model.mpk`.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    ///
    /// # Panics
    /// If the checkpoint of that epoch cannot be read: ask [`resume_point`](Self::resume_point).
    pub fn train<B, R>(
        &self,
        device: &B::Device,
        epoch: usize,
        screen: Screen<R>,
    ) -> Result<Outcome<B::InnerBackend>, TrainError>
    where
        B: AutodiffBackend + ReformerBackend,
        B::InnerBackend: ReformerBackend,
        R: MetricsRenderer + 'static,
    {
        self.with_optimizer::<B, _>(Fit {
            run: self,
            device,
            epoch,
            screen,
        })
    }

    /// Hands the optimizer of the configuration, whose type depends on it, to `user`.
    fn with_optimizer<B, U>(&self, user: U) -> U::Output
    where
        B: AutodiffBackend + ReformerBackend,
        B::InnerBackend: ReformerBackend,
        U: OptimizerUser<B>,
    {
        let limit = self.config.max_gradient_norm;
        match self.config.optimizer {
            OptimizerConfig::Adam {
                beta_1,
                beta_2,
                epsilon,
            } => {
                let adam = AdamConfig::new()
                    .with_beta_1(beta_1)
                    .with_beta_2(beta_2)
                    .with_epsilon(epsilon);
                user.call(ClipByGlobalNorm::new(adam.init::<B, LmTask<B>>(), limit))
            }
            OptimizerConfig::AdamW {
                beta_1,
                beta_2,
                epsilon,
                weight_decay,
            } => {
                let adam_w = AdamWConfig::new()
                    .with_beta_1(beta_1)
                    .with_beta_2(beta_2)
                    .with_epsilon(epsilon)
                    .with_weight_decay(weight_decay);
                user.call(ClipByGlobalNorm::new(adam_w.init::<B, LmTask<B>>(), limit))
            }
        }
    }

    /// Training and validation data, the former from the end of an epoch on.
    fn loaders<B: AutodiffBackend>(
        &self,
        device: &B::Device,
        epoch: usize,
    ) -> Result<(TrainLoader<B>, EvalLoader<B::InnerBackend>), TrainError> {
        let config = &self.config;
        let train = TrainLoaderConfig::new(
            config.window_length,
            config.batch_size,
            config.steps_per_epoch,
        )
        .with_seed(config.seed)
        .init(&self.splits.train, device)?
        .starting_at(config.steps_until(epoch) as u64);
        let valid = EvalLoaderConfig::new(config.window_length, config.batch_size)
            .with_max_windows(config.eval_windows)
            .init(&self.splits.valid, device)?;
        Ok((train, valid))
    }
}

/// Something to do with an optimizer of any type.
trait OptimizerUser<B: AutodiffBackend + ReformerBackend>
where
    B::InnerBackend: ReformerBackend,
{
    type Output;
    fn call<O: Optimizer<LmTask<B>, B> + 'static>(self, optimizer: O) -> Self::Output;
}

struct Locate<'a, B: Backend> {
    checkpoints: Checkpoints,
    device: &'a B::Device,
}

impl<B> OptimizerUser<B> for Locate<'_, B>
where
    B: AutodiffBackend + ReformerBackend,
    B::InnerBackend: ReformerBackend,
{
    type Output = Result<ResumePoint, TrainError>;

    fn call<O: Optimizer<LmTask<B>, B> + 'static>(self, _optimizer: O) -> Self::Output {
        self.checkpoints
            .newest_readable::<B, LmTask<B>, O>(self.device)
    }
}

struct Fit<'a, B: Backend, R> {
    run: &'a Run,
    device: &'a B::Device,
    epoch: usize,
    screen: Screen<R>,
}

impl<B, R> OptimizerUser<B> for Fit<'_, B, R>
where
    B: AutodiffBackend + ReformerBackend,
    B::InnerBackend: ReformerBackend,
    R: MetricsRenderer + 'static,
{
    type Output = Result<Outcome<B::InnerBackend>, TrainError>;

    fn call<O: Optimizer<LmTask<B>, B> + 'static>(self, optimizer: O) -> Self::Output {
        let Self {
            run,
            device,
            epoch,
            screen,
        } = self;
        let config = &run.config;
        let (train, valid) = run.loaders::<B>(device, epoch)?;
        let train = UpTo::new(Arc::new(train), config.steps as u64);
        let interrupter = Interrupter::new();
        let failure = Failure::default();
        let log = CsvLog::open(
            &run.metrics_path(),
            config.steps_until(epoch),
            config.steps.div_ceil(TRAIN_ROWS),
            failure.clone(),
            interrupter.clone(),
        )?;
        let mut training =
            SupervisedTraining::<burn::train::LearningComponentsMarker<_, _, _, _>>::new(
                &run.folder,
                Arc::new(train),
                Arc::new(valid),
            )
            .metrics((
                LmMetric::new(Quantity::Loss),
                LmMetric::new(Quantity::BitsPerByte),
                LmMetric::new(Quantity::Accuracy),
                LmMetric::new(Quantity::TokensPerSecond),
            ))
            .with_metric_logger(log)
            .with_file_checkpointer(AtomicRecorder::with_failure(failure.clone()))
            .with_checkpointing_strategy(KeepLastNCheckpoints::new(KEPT_CHECKPOINTS))
            .with_application_logger(None)
            .with_interrupter(interrupter.clone())
            .num_epochs(config.n_epochs());
        if config.model.reformer.mode != Mode::Plain {
            training = training.metric_train_numeric(LmMetric::new(Quantity::Drift));
        }
        let checkpoint = (epoch > 0).then_some(epoch);
        if let Some(epoch) = checkpoint {
            training = training.checkpoint(epoch);
        }
        let training = match screen {
            Screen::Dashboard => training.renderer(TuiMetricsRendererWrapper::new(
                interrupter.clone(),
                checkpoint,
            )),
            Screen::Renderer(renderer) => training.renderer(renderer),
        };
        B::seed(device, config.seed);
        let task = LmTask::new(config.model.init::<B>(device), config.seed);
        let learner = Learner::new(task, optimizer, config.schedule());
        let result = training.launch(learner);
        // The dashboard gives the terminal back when it is dropped.
        drop(result.renderer);
        if let Some(error) = failure.take() {
            return Err(error);
        }
        run.finish(result.model.model, interrupter.get_message())
    }
}

impl Run {
    fn finish<B: Backend>(
        &self,
        model: ReformerLm<B>,
        stopped: Option<String>,
    ) -> Result<Outcome<B>, TrainError> {
        if stopped.is_none() {
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
            stopped,
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
) -> Result<(ReformerLm<B>, TrainConfig), TrainError> {
    let config = read_config(folder)?;
    config.validate()?;
    let model = config.model.init::<B>(device);
    let path = model_path(folder);
    let checkpoints = Checkpoints::of_run(folder);
    let newest = checkpoints.complete().first().copied();
    let model = match newest {
        Some(epoch) if !AtomicRecorder::file(&path).exists() => {
            let task = LmTask::new(model, config.seed);
            let record = AtomicRecorder::load_named::<B, _>(&checkpoints.model(epoch), device)?;
            task.load_record(record).model
        }
        _ => model.load_record(AtomicRecorder::load_named::<B, _>(&path, device)?),
    };
    Ok((model, config))
}
