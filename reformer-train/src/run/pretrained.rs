//! Weights that a run starts from instead of random ones.

use std::fmt;
use std::path::{Path, PathBuf};

use burn::tensor::backend::Backend;
use burn_store::{ApplyError, ApplyResult, ModuleSnapshot};
use reformer_core::huggingface::{self, Head};

use super::load::{self, load_model};
use crate::error::TrainError;
use crate::model::{Model, ModelConfig};

/// A trained model that another training can start from.
#[derive(Debug)]
pub struct Pretrained<B: Backend> {
    folder: PathBuf,
    model: Model<B>,
    config: ModelConfig,
}

/// Which tensors a model has from another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Names of those that it took.
    pub tensors: Vec<String>,
    /// Names of those that are its own, as they were drawn, and why.
    pub new: Vec<String>,
}

impl<B: Backend> Pretrained<B> {
    /// Reads the folder of a run, finished or not, or one of Hugging Face.
    ///
    /// # Errors
    /// A folder that is neither, and files that are missing or damaged.
    pub fn open(folder: &Path, device: &B::Device) -> Result<Self, TrainError> {
        let (model, config) = match huggingface::head(folder) {
            None => {
                let (model, config) = load_model(folder, device)?;
                (model, config.model)
            }
            Some(Head::Lm) => {
                let (model, config) = huggingface::load(folder, device)?;
                (Model::Lm(model), config.into())
            }
            Some(Head::Classifier) => {
                let (model, config) = huggingface::load_classifier(folder, device)?;
                (Model::Classifier(model), config.into())
            }
            Some(Head::QuestionAnswering) => {
                let (model, config) = huggingface::load_question_answering(folder, device)?;
                (Model::QuestionAnswering(model), config.into())
            }
        };
        Ok(Self {
            folder: folder.to_owned(),
            model,
            config,
        })
    }

    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// A model of a configuration with these weights. All layers have to fit, whatever kind of attention
    /// they have: what attended exactly can go on with hashing. Vocabulary, length and head may be others:
    /// what does not fit of embeddings, positions and heads stays as it was drawn.
    ///
    /// # Errors
    /// [`TrainError::OtherLayers`], and a configuration that cannot work.
    pub fn start(
        self,
        config: &ModelConfig,
        device: &B::Device,
    ) -> Result<(Model<B>, Taken), TrainError> {
        config.validate()?;
        let mut model = config.init::<B>(device);
        // Names leave out which kind a layer or a head is.
        let tensors = self.model.collect(None, None, true);
        let taken = taken(model.apply(tensors, None, None, true));
        let taken = taken.map_err(|reason| TrainError::OtherLayers {
            path: self.folder,
            reason,
        })?;
        Ok((model, taken))
    }
}

/// The file that most of the weights in a folder of a run or of Hugging Face are in, if they are.
pub(super) fn weights_file(folder: &Path) -> PathBuf {
    match huggingface::head(folder) {
        Some(_) => folder.join("model.safetensors"),
        None => load::weights_file(folder),
    }
}

/// What was taken, unless a layer does not fit.
fn taken(result: ApplyResult) -> Result<Taken, String> {
    let missing = result.missing.into_iter();
    let missing = missing.map(|(name, _)| (name, "is not there".to_owned()));
    let others = result.errors.into_iter().map(unfit);
    let new: Vec<(String, String)> = missing.chain(others).collect();
    let unused = result.unused.into_iter();
    let unused: Vec<_> = unused
        .map(|name| (name, "is there alone".to_owned()))
        .collect();
    let told = |(name, reason): &(String, String)| format!("`{name}` {reason}");
    match new
        .iter()
        .chain(&unused)
        .find(|(name, _)| is_of_layers(name))
    {
        Some(unfit) => Err(told(unfit)),
        None => Ok(Taken {
            tensors: result.applied,
            new: new.iter().map(told).collect(),
        }),
    }
}

/// A tensor that does not fit, and why.
fn unfit(error: ApplyError) -> (String, String) {
    let reason = error.to_string();
    match error {
        ApplyError::ShapeMismatch {
            path,
            expected,
            found,
        } => {
            let (here, there) = (expected.to_vec(), found.to_vec());
            (path, format!("is {here:?} here and {there:?} there"))
        }
        ApplyError::DTypeMismatch { path, .. }
        | ApplyError::AdapterError { path, .. }
        | ApplyError::LoadError { path, .. } => (path, reason),
    }
}

/// Whether a tensor is one of a layer, or of the norm behind the last one.
fn is_of_layers(name: &str) -> bool {
    name.split('.')
        .any(|part| part == "blocks" || part == "norm")
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tensors taken", self.tensors.len())?;
        match self.new.is_empty() {
            true => Ok(()),
            false => write!(f, ", {} new: {}", self.new.len(), self.new.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_told_from_what_is_around_them() {
        for name in [
            "reformer.blocks.0.norm.gamma",
            "reformer.norm.beta",
            "encoder.blocks.1.x",
        ] {
            assert!(is_of_layers(name), "{name}");
        }
        for name in [
            "reformer.embedding.weight",
            "reformer.position.weight",
            "output.bias",
        ] {
            assert!(!is_of_layers(name), "{name}");
        }
    }
}
