//! Initial weights of a run from another model.

use std::fmt;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use burn::tensor::backend::Backend;
use burn_store::{ApplyError, ApplyResult, ModuleSnapshot, TensorSnapshot};
use reformer_core::attention::AttentionKind;
use reformer_core::huggingface::{self, Head};
use reformer_core::kernels::TrainBackend;
use reformer_core::model::Reformer;

use super::load::{self, check_finite, load_model};
use crate::error::TrainError;
use crate::record::{Difference, differences};
use crate::task::model::{Model, ModelConfig};
use crate::task::run_model::RunModel;

/// A trained model that another training can start from.
#[derive(Debug)]
pub struct Pretrained<B: Backend> {
    folder: PathBuf,
    model: Model<B>,
    config: ModelConfig,
}

/// What a model took from another one, and how it differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReusedWeights {
    /// Names of the tensors that were taken completely.
    pub tensors: Vec<String>,
    /// Tensors of which the common rows were taken, with these rows.
    pub parts: Vec<String>,
    /// Tensors that keep their random initial values, and why.
    pub new: Vec<String>,
    /// Tensors of the other model that were not used; none of them belongs to a layer.
    pub left: Vec<String>,
    /// Settings that make it compute different results from the same weights.
    pub settings: Vec<String>,
}

impl<B: Backend> Pretrained<B> {
    /// Reads the folder of a run, finished or not, or one of Hugging Face.
    ///
    /// # Errors
    /// A folder that is neither, files that are missing or damaged, and weights that are not finite.
    pub fn open(folder: &Path, device: &B::Device) -> Result<Self, TrainError> {
        let (model, config) = match huggingface::head(folder) {
            None => {
                let (model, config) = load_model(folder, device)?;
                let (folder, config) = (folder.to_owned(), config.model);
                return Ok(Self {
                    folder,
                    model,
                    config,
                });
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

    /// A model of a configuration with these weights. All layers have to fit, regardless of the kind of attention:
    /// a model with full attention can be trained further with hashing. Vocabulary, length and head may differ.
    /// The first rows of embeddings are taken, as many as both have. Position encodings and heads that do not fit
    /// keep their random initial values.
    ///
    /// # Errors
    /// [`TrainError::OtherLayers`], and a configuration that cannot work.
    pub fn start(
        self,
        config: &ModelConfig,
        device: &B::Device,
    ) -> Result<(Model<B>, ReusedWeights), TrainError> {
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
        let mut model = Model::of_library(config, device)?;
        // Names leave out the kind of a layer or a head.
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
            ReusedWeights {
                parts,
                settings,
                ..taken
            },
        ))
    }
}

impl<B: TrainBackend> RunModel<B> for Model<B> {
    fn init(config: &ModelConfig, device: &B::Device) -> Result<Self, TrainError> {
        Self::of_library(config, device)
    }

    fn init_from(
        folder: &Path,
        config: &ModelConfig,
        device: &B::Device,
    ) -> Result<Self, TrainError> {
        Ok(Pretrained::open(folder, device)?.start(config, device)?.0)
    }

    fn reformer(model: &Self::InnerModule) -> Option<&Reformer<B::InnerBackend>> {
        model.reformer()
    }
}

/// Makes an embedding fit the size of this vocabulary: its first rows, followed by the model's own initial
/// rows. Returns which rows were taken.
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

/// The settings by which the layers of two models compute differently, as they are and as they were. Settings of
/// a kind of attention that only one of them has are left out.
fn settings(then: &ModelConfig, now: &ModelConfig) -> Vec<String> {
    let values =
        [then, now].map(|config| serde_json::to_value(config.reformer()).unwrap_or_default());
    let has = |kind| {
        [then, now]
            .iter()
            .all(|config| config.reformer().layers.contains(&kind))
    };
    let is_compared = [
        ("vocab_size", false),
        ("lsh.", has(AttentionKind::Lsh)),
        ("local.", has(AttentionKind::Local)),
    ];
    let differences = differences(&values[0], &values[1]).into_iter();
    differences
        .filter(|difference| {
            let of = |(prefix, _): &&(&str, bool)| difference.setting.starts_with(prefix);
            is_compared
                .iter()
                .find(of)
                .is_none_or(|(_, is_compared)| *is_compared)
        })
        .map(|Difference { setting, then, now }| format!("`{setting}` was {then} and is {now}"))
        .collect()
}

/// The file with most of the weights in a folder of a run or of Hugging Face.
pub(super) fn weights_file(folder: &Path) -> PathBuf {
    match huggingface::head(folder) {
        Some(_) => folder.join("model.safetensors"),
        None => load::weights_file(folder),
    }
}

/// The tensors that were taken, unless a layer does not fit.
fn taken(result: ApplyResult) -> Result<ReusedWeights, String> {
    let missing = result.missing.into_iter();
    let missing = missing.map(|(name, _)| (name, "is missing there".to_owned()));
    let others = result.errors.into_iter().map(unfit);
    let new: Vec<(String, String)> = missing.chain(others).collect();
    let unused = result.unused.into_iter();
    let unused: Vec<_> = unused
        .map(|name| (name, "is only there".to_owned()))
        .collect();
    let line = |(name, reason): &(String, String)| format!("`{name}` {reason}");
    match new
        .iter()
        .chain(&unused)
        .find(|(name, _)| is_of_layers(name))
    {
        Some(unfit) => Err(line(unfit) + hint(&unfit.0)),
        None => Ok(ReusedWeights {
            tensors: result.applied,
            new: new.iter().map(line).collect(),
            left: unused.iter().map(|(name, _)| format!("`{name}`")).collect(),
            ..ReusedWeights::default()
        }),
    }
}

/// A hint for layers whose keys are computed in another way.
fn hint(name: &str) -> &'static str {
    match name.contains(".key.") {
        true => {
            " (LSH attention shares queries and keys, local attention has a key projection, full attention \
             depends on `full_share_qk`)"
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

/// Whether a tensor belongs to a layer, or to the norm behind the last one.
fn is_of_layers(name: &str) -> bool {
    name.split('.')
        .any(|part| part == "blocks" || part == "norm")
}

impl fmt::Display for ReusedWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tensors reused", self.tensors.len())?;
        for (what, which) in [
            ("in part", &self.parts),
            ("new", &self.new),
            ("not used", &self.left),
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
    fn tensors_of_layers_are_distinguished_from_others() {
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
