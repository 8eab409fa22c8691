//! Weights that a run starts from instead of random ones.

use std::path::{Path, PathBuf};
use std::{fmt, fs};

use burn::tensor::TensorData;
use burn::tensor::backend::Backend;
use burn_store::{ApplyError, ApplyResult, ModuleSnapshot, TensorSnapshot};
use reformer_core::attention::AttentionKind;
use reformer_core::huggingface::{self, Head};

use super::load::{self, load_model};
use crate::error::TrainError;
use crate::model::{Model, ModelConfig};
use crate::record::{Difference, differences};

/// A trained model that another training can start from.
#[derive(Debug)]
pub struct Pretrained<B: Backend> {
    folder: PathBuf,
    model: Model<B>,
    config: ModelConfig,
}

/// What a model has from another one, and what it does otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Names of the tensors that it took.
    pub tensors: Vec<String>,
    /// Those of which it took the rows that both have, and which these are.
    pub parts: Vec<String>,
    /// Those that are its own, as they were drawn, and why.
    pub new: Vec<String>,
    /// Those of the other model that have no place in it: nothing of a layer.
    pub left: Vec<String>,
    /// Settings with which it computes something else from the same weights.
    pub settings: Vec<String>,
}

impl<B: Backend> Pretrained<B> {
    /// Reads the folder of a run, finished or not, or one of Hugging Face.
    ///
    /// # Errors
    /// A folder that is neither, files that are missing or damaged, and weights that are no numbers.
    pub fn open(folder: &Path, device: &B::Device) -> Result<Self, TrainError> {
        let (model, config) = match hugging_face_head(folder) {
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
        check_finite(folder, &model)?;
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
    /// of embeddings, the first rows are taken, as many as both have; what else does not fit of positions and
    /// heads stays as it was drawn.
    ///
    /// # Errors
    /// [`TrainError::OtherLayers`], and a configuration that cannot work.
    pub fn start(
        self,
        config: &ModelConfig,
        device: &B::Device,
    ) -> Result<(Model<B>, Taken), TrainError> {
        config.validate()?;
        let is_pair = |config: &ModelConfig| matches!(config, ModelConfig::Seq2Seq(_));
        if is_pair(config) != is_pair(&self.config) {
            return Err(TrainError::OtherLayers {
                path: self.folder,
                reason: format!(
                    "that is {}, and this is {}",
                    self.config.name(),
                    config.name()
                ),
            });
        }
        let mut model = config.init::<B>(device);
        // Names leave out which kind a layer or a head is.
        let mut tensors = self.model.collect(None, None, true);
        let own = model.collect(None, None, true);
        let parts = tensors.iter_mut().filter_map(|tensor| {
            let name = tensor.full_path();
            let own = own.iter().find(|own| own.full_path() == name)?;
            common_rows(tensor, own)
        });
        let parts = parts.collect();
        let taken = taken(model.apply(tensors, None, None, true));
        let taken = taken.map_err(|reason| TrainError::OtherLayers {
            path: self.folder,
            reason,
        })?;
        let settings = settings(&self.config, config);
        Ok((
            model,
            Taken {
                parts,
                settings,
                ..taken
            },
        ))
    }
}

/// Checks that all weights are numbers that training can go on from.
fn check_finite<B: Backend>(folder: &Path, model: &Model<B>) -> Result<(), TrainError> {
    for tensor in model.collect(None, None, true) {
        let data = tensor.to_data();
        let is_finite = data.is_ok_and(|data| data.iter::<f32>().all(f32::is_finite));
        if !is_finite {
            return Err(TrainError::Damaged {
                path: folder.to_owned(),
                reason: format!("`{}` has weights that are no numbers", tensor.full_path()),
            });
        }
    }
    Ok(())
}

/// Makes an embedding of another vocabulary one of this size: its first rows, and below them those that were
/// drawn. Says which were taken.
fn common_rows(there: &mut TensorSnapshot, own: &TensorSnapshot) -> Option<String> {
    let name = there.full_path();
    let ([n_there, width], [n_own, own_width]) = (
        there.shape[..].try_into().ok()?,
        own.shape[..].try_into().ok()?,
    );
    if !name.ends_with("embedding.weight") || width != own_width || n_there == n_own {
        return None;
    }
    let n = n_there.min(n_own);
    let there_values: Vec<f32> = there.to_data().ok()?.iter().take(n * width).collect();
    let own_values = own.to_data().ok()?;
    let values = there_values
        .into_iter()
        .chain(own_values.iter().skip(n * width));
    let data =
        TensorData::new(values.collect::<Vec<f32>>(), [n_own, width]).convert_dtype(own.dtype);
    *there = TensorSnapshot::from_data(
        data,
        there.path_stack.take().unwrap_or_default(),
        there.container_stack.take().unwrap_or_default(),
        there.tensor_id.unwrap_or_default(),
    );
    Some(format!("`{name}` ({n} of {n_own} rows)"))
}

/// The settings by which the layers of two models compute otherwise, as they are and as they were. Those of a
/// kind of attention that not both have say nothing.
fn settings(then: &ModelConfig, now: &ModelConfig) -> Vec<String> {
    let values =
        [then, now].map(|config| serde_json::to_value(config.reformer()).unwrap_or_default());
    let has = |kind| {
        [then, now]
            .iter()
            .all(|config| config.reformer().layers.contains(&kind))
    };
    let told = [
        ("vocab_size", false),
        ("lsh.", has(AttentionKind::Lsh)),
        ("local.", has(AttentionKind::Local)),
    ];
    let differences = differences(&values[0], &values[1]).into_iter();
    differences
        .filter(|difference| {
            let of = |(prefix, _): &&(&str, bool)| difference.setting.starts_with(prefix);
            told.iter().find(of).is_none_or(|(_, is_told)| *is_told)
        })
        .map(|Difference { setting, then, now }| format!("`{setting}` was {then} and is {now}"))
        .collect()
}

/// The head of the Hugging Face checkpoint in a folder, if it is the folder of one: what is no file in the place
/// of its config.json, such as a pipe, is not waited for.
pub fn hugging_face_head(folder: &Path) -> Option<Head> {
    let is_file = fs::metadata(folder.join(load::CONFIG)).is_ok_and(|found| found.is_file());
    is_file.then(|| huggingface::head(folder)).flatten()
}

/// The file that most of the weights in a folder of a run or of Hugging Face are in, if they are.
pub(super) fn weights_file(folder: &Path) -> PathBuf {
    match hugging_face_head(folder) {
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
        Some(unfit) => Err(told(unfit) + hint(&unfit.0)),
        None => Ok(Taken {
            tensors: result.applied,
            new: new.iter().map(told).collect(),
            left: unused.iter().map(|(name, _)| format!("`{name}`")).collect(),
            ..Taken::default()
        }),
    }
}

/// What makes layers fit whose keys are not made in the same way.
fn hint(name: &str) -> &'static str {
    match name.contains(".key.") {
        true => {
            " (LSH attention has no keys of its own, local attention has, and full attention by \
             `full_share_qk=false`)"
        }
        false => "",
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
        for (what, which) in [
            ("in part", &self.parts),
            ("new", &self.new),
            ("left behind", &self.left),
            ("other settings", &self.settings),
        ] {
            match which.is_empty() {
                true => {}
                false => write!(f, "; {what}: {}", which.join(", "))?,
            }
        }
        Ok(())
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
