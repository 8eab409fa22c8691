//! Training models of `reformer-core` with Burn's learner.
//!
//! # The main types, and how they are related
//!
//! - [`TrainConfig`]: everything that a run depends on: model, [`data`], [`optimizer`], [`schedule`], seed.
//! - [`Run`]: a configuration with its data and its folder. [`Run::create`] starts one,
//!   [`Run::resume`] continues one that was stopped or killed, and
//!   [`Run::resume_with`] extends one. [`OwnData`] is for sequences of your own, [`RunModel`] for models.
//! - [`task::Task`]: a model with the interface of Burn's learner. A training step is a pass through the
//!   [tape](reformer_core::reversible::Tape), so memory does not grow with depth.
//! - [`metrics`]: what is measured in each step, coverage of LSH attention and balance of its buckets, and
//!   resident memory; [`report`]: a run as a page.
//! - [`Evaluation`]: a trained model measured on the data of its run, or on other files.
//! - [`inference`]: a trained model that takes and gives text: generates, classifies, answers, translates.
//! - [`record`]: files that are either complete or absent; [`run::Checkpoints`] finds the sets
//!   that are complete.
//! - [`parallel`]: several devices and several machines; [`screen`]: output to a terminal.
//!
//! # A run's folder
//!
//! ```text
//! config.json       the TrainConfig
//! run.json          the state at the start: the run's identity, size and hash of the data files
//! lock              locked by the process that trains the run
//! checkpoint/       model-S.mpk, optim-S.mpk and scheduler-S.mpk after the last saved steps S, and
//!                   after the best; each has a tag that names its run, and a checksum
//! classes.json      for a classifier: names of classes; subwords.json for an encoder-decoder
//! metrics.csv       a row every few steps, and one for each evaluation
//! samples.jsonl     texts that the model generated at evaluations, if enabled
//! report.html       all of this as a page that reloads itself
//! events.out.*      the rows of metrics.csv as TensorBoard reads them, if enabled
//! model.mpk         the weights, once the run is finished
//! ```
//!
//! # The same seed, the same weights
//!
//! Data and randomness of a step are functions of the seed and the step's number. So a run that
//! was killed and resumed ends with the weights of an uninterrupted one, bit for bit on a
//! deterministic backend.
//!
//! # Example
//!
//! ```
//! use burn_autodiff::Autodiff;
//! use burn_flex::Flex;
//! use reformer_core::model::{ReformerConfig, ReformerLmConfig};
//! use reformer_train::{DataConfig, Ending, Run, TrainConfig, TrainOptions};
//!
//! # fn main() -> Result<(), reformer_train::TrainError> {
//! # let folder = tempfile::tempdir().unwrap();
//! let model = ReformerLmConfig::new(ReformerConfig::new(256, 16, 2)); // vocab_size, d_model, n_layers
//! let config = TrainConfig::new(model.into(), DataConfig::Sample)
//!     .with_window_length(64)
//!     .with_batch_size(2)
//!     .with_steps(4)
//!     .with_steps_per_epoch(2)
//!     .with_eval_windows(Some(2));
//! let run = Run::create(config, folder.path().join("first"))?;
//! let device = Default::default();
//! let outcome = run.train::<Autodiff<Flex>, _>(&device, 0, TrainOptions::silent())?;
//! assert_eq!(outcome.ending, Ending::Finished);
//! // A few steps are only enough to learn that there are 256 different bytes.
//! assert!((outcome.valid[1].loss() - 256f64.ln()).abs() < 1.0);
//! # Ok(())
//! # }
//! ```

#![deny(missing_docs)]

mod config;
pub mod data;
mod error;
mod evaluation;
pub mod inference;
pub mod metrics;
pub mod optimizer;
pub mod parallel;
pub mod record;
pub mod report;
pub mod run;
pub mod schedule;
pub mod screen;
pub mod task;

pub use config::{NonFiniteLoss, TrainConfig};
pub use data::batch::Batch;
pub use data::{DataConfig, OwnData};
pub use error::{SettingError, TrainError};
pub use evaluation::{Evaluation, Measured};
pub use optimizer::OptimizerConfig;
pub use run::member::Member;
pub use run::training_loop::Ending;
pub use run::{Pretrained, ResumeOptions, Run, RunOutcome, TrainOptions, load_model};
pub use schedule::ScheduleConfig;
pub use task::model::{Model, ModelConfig};
pub use task::own_config::OwnModelConfig;
pub use task::run_model::RunModel;

/// The example in the guide.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide.md")]
pub struct Guide;
