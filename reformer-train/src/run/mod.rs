//! A run: configuration, data and folder, from the first step to the last.

mod batches;
mod beginning;
pub(crate) mod checkpoint;
pub(crate) mod diverged;
mod load;
mod loaders;
mod lock;
mod measurable;
pub(crate) mod member;
mod older;
mod optimizer;
mod options;
mod pretrained;
mod resume;
mod settings;
pub(crate) mod setup;
mod train;
pub(crate) mod training_loop;

use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use burn::tensor::backend::Backend;
use reformer_core::ConfigError;
use reformer_core::kernels::TrainBackend;

use crate::config::TrainConfig;
use crate::data::pairs::{Pairs, load_subwords};
use crate::data::{AskedQuestions, Content, Data, DataConfig, DataReport, OwnData};
use crate::error::TrainError;
use crate::metrics::row::{Row, read_rows};
use crate::record::Owner;
use crate::report::page::Page;
use crate::run::training_loop::Ending;
use crate::task::model::Model;
use crate::task::run_model::RunModel;
use beginning::Beginning;
use load::{CONFIG, check_new_folder, read_config};

pub use checkpoint::{Best, Checkpoints, ResumePoint};
pub use load::{check_finite, load_model};
pub use member::MemberOutcome;
pub use options::{TrainOptions, Warn, WriteSample};
pub use pretrained::{Pretrained, ReusedWeights};
pub(crate) use resume::Standing;
pub use resume::{Extension, ResumeOptions};

/// A run: its configuration, its data and its folder.
#[derive(Debug)]
pub struct Run {
    config: TrainConfig,
    /// The content of config.json, if it differs.
    written: Option<TrainConfig>,
    beginning: Beginning,
    folder: PathBuf,
    data: Data,
}

/// The result of a run.
#[derive(Debug)]
pub struct RunOutcome<B: Backend, M = Model<B>> {
    /// The trained model.
    pub model: M,
    /// All evaluations so far, in order.
    pub valid: Vec<Row>,
    /// The best of them.
    pub best: Option<Best>,
    /// How it ended.
    pub ending: Ending,
    backend: PhantomData<B>,
}

impl Run {
    /// Starts a run: checks the configuration, reads the data, then creates the folder, which appears
    /// complete or not at all.
    ///
    /// # Errors
    /// A setting or data that cannot work, such as sequences too short for any target, a folder that is not empty,
    /// belongs to another run or cannot be written.
    pub fn create(config: TrainConfig, folder: impl Into<PathBuf>) -> Result<Self, TrainError> {
        Self::create_from(config, folder, None)
    }

    /// As [`create`](Self::create), with the weights of another folder, of a run or of Hugging Face,
    /// instead of random ones, as far as they [fit](Pretrained::start). They are read when training begins. Parallel
    /// text is encoded with the vocabulary of the other run.
    ///
    /// # Errors
    /// The same.
    pub fn create_from(
        config: TrainConfig,
        folder: impl Into<PathBuf>,
        start_from: Option<&Path>,
    ) -> Result<Self, TrainError> {
        Self::create_on(config, folder.into(), start_from, None)
    }

    /// As [`create`](Self::create), on sequences of the program's own: the data of the configuration is
    /// [`DataConfig::Own`].
    ///
    /// # Errors
    /// The same.
    pub fn create_with_data(
        config: TrainConfig,
        folder: impl Into<PathBuf>,
        data: &OwnData,
    ) -> Result<Self, TrainError> {
        Self::create_on(config, folder.into(), None, Some(data))
    }

    fn create_on(
        config: TrainConfig,
        folder: PathBuf,
        start_from: Option<&Path>,
        own: Option<&OwnData>,
    ) -> Result<Self, TrainError> {
        check_new_folder(&folder)?;
        let names = match (&config.data, start_from) {
            (DataConfig::Pairs(_), Some(other)) => {
                // Another vocabulary would give pieces the embeddings of different ones.
                load_subwords(other)?;
                other
            }
            _ => &folder,
        };
        let data = Self::open(&config, names, own)?;
        // One of an earlier version is resumed all the same: it cannot be changed.
        data.check_measured(&config)?;
        let run = Self {
            beginning: Beginning::new(&config.data, own, start_from)?,
            written: None,
            config,
            folder,
            data,
        };
        run.make_folder()?;
        Ok(run)
    }

    /// Opens an existing run: reads its configuration and its data.
    ///
    /// # Errors
    /// A folder that does not contain a run, or data that is missing or has changed.
    pub fn resume(folder: impl Into<PathBuf>) -> Result<Self, TrainError> {
        Self::resume_with(folder, &ResumeOptions::default())
    }

    /// As [`resume`](Self::resume), with changes, which are written to config.json when training begins.
    ///
    /// # Errors
    /// The same, and a change that is not possible.
    pub fn resume_with(
        folder: impl Into<PathBuf>,
        options: &ResumeOptions,
    ) -> Result<Self, TrainError> {
        Self::resume_on(folder.into(), options, None)
    }

    /// The same for a run on sequences of the program's own, which must be those that it began with.
    ///
    /// # Errors
    /// The same.
    pub fn resume_with_data(
        folder: impl Into<PathBuf>,
        options: &ResumeOptions,
        data: &OwnData,
    ) -> Result<Self, TrainError> {
        Self::resume_on(folder.into(), options, Some(data))
    }

    fn resume_on(
        folder: PathBuf,
        options: &ResumeOptions,
        own: Option<&OwnData>,
    ) -> Result<Self, TrainError> {
        let written = read_config(&folder)?;
        let mut config = written.clone();
        config.steps = options.steps.unwrap_or(config.steps);
        config.patience = options.patience.or(config.patience);
        let data = Self::open(&config, &folder, own)?;
        let beginning = Beginning::of_run(&folder)?;
        beginning.check_data(own)?;
        let run = Self {
            written: (written != config).then_some(written),
            beginning,
            config,
            folder,
            data,
        };
        run.check_options(options)?;
        Ok(run)
    }

    fn open(
        config: &TrainConfig,
        folder: &Path,
        own: Option<&OwnData>,
    ) -> Result<Data, TrainError> {
        config.validate()?;
        let data = match (&config.data, own) {
            (DataConfig::Own(name), Some(own)) => own.open(name),
            (_, Some(_)) => {
                return Err(ConfigError::new(
                    "data",
                    config.data.token_name(),
                    "sequences of the program's own are given, and the configuration names other data",
                    "use DataConfig::Own",
                )
                .into());
            }
            (data, None) => data.open(config.wanted(), Some(folder))?,
        };
        data.check(config)?;
        Ok(data)
    }

    /// The configuration.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of the initial weights, if they were not random.
    pub fn started_from(&self) -> Option<&Path> {
        self.beginning.start_from.as_deref()
    }

    /// The same of the run in a folder, which may be incomplete; `None` if the folder contains no run.
    pub fn start_of(folder: &Path) -> Option<PathBuf> {
        Beginning::of_run(folder).ok()?.start_from
    }

    /// The model before the first step.
    pub(crate) fn first_model<B: TrainBackend, M: RunModel<B>>(
        &self,
        device: &B::Device,
    ) -> Result<M, TrainError> {
        let config = &self.config.model;
        match self.started_from() {
            Some(folder) => {
                self.beginning.check_weights()?;
                M::init_from(folder, config, device)
            }
            None => M::init(config, device),
        }
    }

    /// The rows of `metrics.csv`.
    ///
    /// # Errors
    /// A file that is missing or of another form, or has rows of steps that the run does not have.
    pub fn rows(&self) -> Result<Vec<Row>, TrainError> {
        let path = self.metrics_path();
        let rows = read_rows(&path)?;
        // If fewer steps are requested than before, there can be rows of steps that are not repeated.
        let before = self.written.as_ref().map_or(0, |written| written.steps);
        let steps = self.config.steps.max(before);
        match rows.iter().map(|row| row.step).max() {
            Some(step) if step > steps => Err(TrainError::OtherRows { path, step, steps }),
            _ => Ok(rows),
        }
    }

    /// The same, empty for a run that has not begun.
    pub(crate) fn rows_if_any(&self) -> Result<Vec<Row>, TrainError> {
        match self.metrics_path().exists() {
            true => self.rows(),
            false => Ok(vec![]),
        }
    }

    /// The owner of this run's checkpoints.
    pub(crate) fn owner(&self) -> Owner {
        Owner::new(self.beginning.id.clone(), &self.config.model)
    }

    /// The pairs of sentences of an encoder-decoder's run.
    pub fn pairs(&self) -> Option<&Pairs> {
        match self.data.content() {
            Content::Pairs(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// The questions of a question answering run.
    pub fn questions(&self) -> Option<&AskedQuestions> {
        match self.data.content() {
            Content::Questions(questions) => Some(questions),
            _ => None,
        }
    }

    /// What was read from its data.
    pub fn data_report(&self) -> &DataReport {
        self.data.report()
    }

    fn config_path(&self) -> PathBuf {
        self.folder.join(CONFIG)
    }

    fn metrics_path(&self) -> PathBuf {
        self.folder.join("metrics.csv")
    }

    /// The page of the run, with the backend of a device.
    pub(crate) fn page<B: Backend>(&self, device: &B::Device) -> Page {
        let page = Page::new(self.folder.clone(), self.config.clone(), B::name(device));
        page.with_data(self.data_report())
    }
}
