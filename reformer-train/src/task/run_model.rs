//! What a run needs of a model.

use std::path::Path;

use burn::module::{AutodiffModule, ModuleDisplay};
use reformer_core::ConfigError;
use reformer_core::kernels::TrainBackend;
use reformer_core::model::{Loss, Reformer, Trainable};

use crate::data::batch::Batch;
use crate::error::TrainError;
use crate::task::model::ModelConfig;

/// A model that a [`Run`](crate::Run) can train: a [`Trainable`] one that reads [`Batch`]es. [`Model`](crate::Model)
/// is one; any other module becomes one by saying how it is [initialised](Self::init), and is trained by
/// [`Run::train_model`](crate::Run::train_model).
pub trait RunModel<B: TrainBackend>:
    Trainable<B, Batch = Batch<B>>
    + AutodiffModule<
        B,
        InnerModule: Loss<B::InnerBackend, Batch = Batch<B::InnerBackend>> + ModuleDisplay,
    > + ModuleDisplay
    + 'static
{
    /// Initialises the model of a configuration.
    ///
    /// # Errors
    /// The configuration of another model.
    fn init(config: &ModelConfig, device: &B::Device) -> Result<Self, TrainError>;

    /// The same with the weights of a folder, for [`Run::create_from`](crate::Run::create_from). By default
    /// an error.
    ///
    /// # Errors
    /// A folder without weights, or with those of a model that is too different.
    fn init_from(
        folder: &Path,
        config: &ModelConfig,
        _device: &B::Device,
    ) -> Result<Self, TrainError> {
        Err(ConfigError::new(
            "start_from",
            folder.display(),
            format!("{} starts from its own weights only", config.name()),
            "leave it out",
        )
        .into())
    }

    /// The stack whose hashing is measured in evaluations. By default none.
    fn reformer(_model: &Self::InnerModule) -> Option<&Reformer<B::InnerBackend>> {
        None
    }
}
