//! Reading and writing checkpoints of Hugging Face's Reformer.
//!
//! [`load`] reads a folder with `config.json` and `model.safetensors` (or `pytorch_model.bin`, or
//! several files and their index) into a [`ReformerLm`] that computes the same as in Hugging Face;
//! [`save`] writes such a folder. [`load_classifier`] and [`load_question_answering`] read
//! checkpoints with other heads; [`head`] returns the kind of head in a folder.
//!
//! Hugging Face draws new hash rotations in every forward pass, so a checkpoint has none. The
//! loaded model uses rotations drawn once from `hash_seed`; they can be replaced with
//! [`Reformer::with_rotations`](crate::model::Reformer::with_rotations).

mod config;
mod error;
mod pickle;
mod pytorch;
mod shapes;
mod tensors;
mod weights;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;

use burn::module::{Module, ParamId};
use burn::tensor::DType;
use burn::tensor::backend::Backend;
use burn_store::{ModuleSnapshot, TensorSnapshot};
use safetensors::tensor::TensorView;
use serde_json::Value;

pub use config::{HuggingFaceBuckets, HuggingFaceConfig};
pub use error::HuggingFaceError;

use crate::files::write_atomically;
use crate::model::{
    ReformerClassifier, ReformerClassifierConfig, ReformerLm, ReformerLmConfig,
    ReformerQuestionAnswering, ReformerQuestionAnsweringConfig,
};
use shapes::shapes;
use tensors::{Entry, linear, stack};
use weights::{Weights, read_json};

const CONFIG: &str = "config.json";
const SAFETENSORS: &str = "model.safetensors";
/// The output bias of older checkpoints, whose models added it to the logits.
const OUTPUT_BIAS: &str = "lm_head.decoder.bias";
/// Stored by every version, but not used by any (checked against 5.23).
const UNUSED_BIAS: &str = "lm_head.bias";

/// The head of a checkpoint, on top of its layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// A language model, causal or masked: [`load`].
    Lm,
    /// Classification of sequences: [`load_classifier`].
    Classifier,
    /// Question answering by spans: [`load_question_answering`].
    QuestionAnswering,
}

/// The token of byte 0 if a vocabulary is one of bytes: of 256, or of 258 of which the first two are for padding and the
/// end, as in `google/reformer-enwik8`. Such a folder has no tokenizer.
pub fn first_byte(vocab_size: usize) -> Option<u32> {
    match vocab_size {
        256 => Some(0),
        258 => Some(2),
        _ => None,
    }
}

/// The head of the checkpoint in a folder, from its `architectures`. `None` if `config.json` is
/// missing, is not a regular file or has no `model_type`, which all of Hugging Face's have.
pub fn head(folder: &Path) -> Option<Head> {
    let config = read_json(&folder.join(CONFIG)).ok()?;
    let config: Value = serde_json::from_str(&config).ok()?;
    config.get("model_type")?;
    let architecture = config.get("architectures").and_then(|names| names.get(0));
    let architecture = architecture.and_then(Value::as_str).unwrap_or_default();
    Some(if architecture.ends_with("SequenceClassification") {
        Head::Classifier
    } else if architecture.ends_with("QuestionAnswering") {
        Head::QuestionAnswering
    } else {
        Head::Lm
    })
}

/// Reads a Hugging Face Reformer with a language-model head, causal or masked.
///
/// # Errors
/// Missing or damaged files, settings without a counterpart, and all tensors that are missing,
/// unknown or of the wrong shape.
pub fn load<B: Backend>(
    folder: &Path,
    device: &B::Device,
) -> Result<(ReformerLm<B>, ReformerLmConfig), HuggingFaceError> {
    let config = read_config(folder)?.to_config()?;
    let weights = Weights::open(folder)?;
    let config = config.with_output_bias(weights.contains(OUTPUT_BIAS));
    let entries = lm_entries(&config);
    let found = weights.read(&entries, &[UNUSED_BIAS])?;
    let model = fill(config.init::<B>(device), entries, &weights.path, found)?;
    Ok((model, config))
}

/// Reads a Hugging Face Reformer that classifies sequences.
///
/// # Errors
/// As [`load`].
pub fn load_classifier<B: Backend>(
    folder: &Path,
    device: &B::Device,
) -> Result<(ReformerClassifier<B>, ReformerClassifierConfig), HuggingFaceError> {
    let hf = read_config(folder)?;
    let reformer = hf.to_config()?.reformer;
    let mut entries = stack(&reformer);
    entries.extend(linear("classifier.dense", "head.dense", true));
    entries.extend(linear("classifier.out_proj", "head.output", true));
    let weights = Weights::open(folder)?;
    let found = weights.read(&entries, &[])?;
    // Only the weights contain the number of classes; `fill` reports a weight of the wrong rank.
    let output = found.get("classifier.out_proj.weight");
    let n_classes = output.and_then(|weight| weight.shape.to_vec().first().copied());
    let config = ReformerClassifierConfig::new(reformer, n_classes.unwrap_or(2))
        .with_dropout(hf.classifier_dropout);
    config.validate()?;
    let model = fill(config.init::<B>(device), entries, &weights.path, found)?;
    Ok((model, config))
}

/// Reads a Hugging Face Reformer for question answering.
///
/// # Errors
/// As [`load`].
pub fn load_question_answering<B: Backend>(
    folder: &Path,
    device: &B::Device,
) -> Result<
    (
        ReformerQuestionAnswering<B>,
        ReformerQuestionAnsweringConfig,
    ),
    HuggingFaceError,
> {
    let config = ReformerQuestionAnsweringConfig::new(read_config(folder)?.to_config()?.reformer);
    let mut entries = stack(&config.reformer);
    entries.extend(linear("qa_outputs", "output", true));
    let weights = Weights::open(folder)?;
    let found = weights.read(&entries, &[])?;
    let model = fill(config.init::<B>(device), entries, &weights.path, found)?;
    Ok((model, config))
}

fn lm_entries(config: &ReformerLmConfig) -> Vec<Entry> {
    let mut entries = stack(&config.reformer);
    entries.extend(linear("lm_head.decoder", "output", config.output_bias));
    entries
}

/// Loads the tensors of a file into a module, which must be exactly those of `entries`.
fn fill<B: Backend, M: Module<B>>(
    mut model: M,
    entries: Vec<Entry>,
    path: &Path,
    mut found: BTreeMap<String, TensorSnapshot>,
) -> Result<M, HuggingFaceError> {
    let ours = shapes(&model);
    let (mut missing, mut shapes, mut types) = (Vec::new(), Vec::new(), Vec::new());
    let mut snapshots = Vec::new();
    for entry in entries {
        let shape = &ours[&entry.ours];
        let Some(snapshot) = found.remove(&entry.theirs) else {
            missing.push(entry.theirs);
            continue;
        };
        let expected = entry.layout.shape_of(shape);
        if snapshot.shape.to_vec() != expected {
            shapes.push((entry.theirs, expected, snapshot.shape.to_vec()));
            continue;
        }
        if !snapshot.dtype.is_float() {
            types.push((entry.theirs, format!("{:?}", snapshot.dtype)));
            continue;
        }
        snapshots.push(to_ours(entry, shape.clone(), snapshot));
    }
    let unknown: Vec<String> = found.into_keys().collect();
    let is_wrong = [&missing, &unknown]
        .into_iter()
        .any(|names| !names.is_empty());
    if is_wrong || !shapes.is_empty() || !types.is_empty() {
        return Err(HuggingFaceError::Tensors {
            path: path.to_path_buf(),
            missing,
            unknown,
            shapes,
            types,
        });
    }

    let result = model.apply(snapshots, None, None, true);
    if let Some(error) = result.errors.first() {
        return Err(damaged(path, error));
    }
    Ok(model)
}

/// Writes a model as a Hugging Face folder: `config.json` and `model.safetensors`. Each is written
/// completely or not at all.
///
/// # Errors
/// Settings that Hugging Face does not have, existing files, and errors of the operating system.
pub fn save<B: Backend>(
    model: &ReformerLm<B>,
    config: &ReformerLmConfig,
    folder: &Path,
) -> Result<(), HuggingFaceError> {
    let hf = HuggingFaceConfig::from_config(config)?;
    let (config_path, weights_path) = (folder.join(CONFIG), folder.join(SAFETENSORS));
    for path in [&config_path, &weights_path] {
        if path.exists() {
            return Err(HuggingFaceError::Exists { path: path.clone() });
        }
    }
    fs::create_dir_all(folder).map_err(io(folder))?;

    let ours = our_tensors(model);
    let mut converted = Vec::new();
    for Entry {
        theirs,
        ours: path,
        layout,
    } in lm_entries(config)
    {
        let snapshot = &ours[&path];
        let data = snapshot.to_data().map_err(|e| damaged(&weights_path, e))?;
        let shape = layout.shape_of(&snapshot.shape);
        converted.push((theirs, layout.convert(data, shape)));
    }
    let views = converted
        .iter()
        .map(|(name, data)| {
            let view = TensorView::new(safetensors::Dtype::F32, data.shape.to_vec(), &data.bytes);
            view.map(|view| (name.as_str(), view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| damaged(&weights_path, e))?;
    // Readers of the format require an entry about its origin, in the terms of PyTorch's tools.
    let metadata = [("format".to_string(), "pt".to_string())].into();
    let bytes =
        safetensors::serialize(views, Some(metadata)).map_err(|e| damaged(&weights_path, e))?;
    let json = serde_json::to_vec_pretty(&hf).map_err(|source| HuggingFaceError::Json {
        path: config_path.clone(),
        source,
    })?;
    for (path, bytes) in [(&weights_path, &bytes), (&config_path, &json)] {
        write_atomically(path, |writer| writer.write_all(bytes)).map_err(io(path))?;
    }
    Ok(())
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> HuggingFaceError {
    let path = path.to_path_buf();
    move |source| HuggingFaceError::Io {
        path: path.clone(),
        source,
    }
}

fn damaged(path: &Path, reason: impl core::fmt::Display) -> HuggingFaceError {
    HuggingFaceError::Damaged {
        path: path.to_path_buf(),
        reason: one_line(&reason.to_string()),
    }
}

/// Maximum length of a quoted error message in characters: it may contain the whole file.
const MAX_REASON: usize = 300;

/// Turns an error message of a library into a single short line.
fn one_line(text: &str) -> String {
    let is_long = text.chars().nth(MAX_REASON).is_some();
    let mut line: String = text
        .chars()
        .take(MAX_REASON)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if is_long {
        line.push_str(" ...");
    }
    line
}

fn read_config(folder: &Path) -> Result<HuggingFaceConfig, HuggingFaceError> {
    let path = folder.join(CONFIG);
    let text = read_json(&path)?;
    serde_json::from_str(&text).map_err(|source| HuggingFaceError::Json { path, source })
}

/// The tensors of a model by their paths.
fn our_tensors<B: Backend, M: Module<B>>(model: &M) -> BTreeMap<String, TensorSnapshot> {
    model
        .collect(None, None, true)
        .into_iter()
        .map(|snapshot| (snapshot.full_path(), snapshot))
        .collect()
}

/// A tensor in our layout, converted lazily: of all other tensors, only those of the model are in
/// memory at that time.
fn to_ours(entry: Entry, shape: Vec<usize>, snapshot: TensorSnapshot) -> TensorSnapshot {
    let path = entry.ours.split('.').map(Into::into).collect();
    let (layout, of_result) = (entry.layout, shape.clone());
    let convert = move || {
        let data = snapshot.to_data();
        data.map(|data| layout.convert(data, of_result.clone()))
    };
    TensorSnapshot::from_closure(
        Rc::new(convert),
        DType::F32,
        shape.into(),
        path,
        vec![],
        ParamId::new(),
    )
}
