//! Classifies texts with a trained model.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use burn::tensor::activation::softmax;
use reformer_core::Pass;
use reformer_core::huggingface;
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::ReformerClassifier;
use reformer_datasets::labelled::{LabelledRows, LabelledTexts};
use reformer_datasets::long_range::LongRangeTask;
use serde_json::Value;

use super::error::InferenceError;
use super::reading::{Reading, one_batch, tokens};
use crate::data::DataConfig;
use crate::data::classes::load_classes;
use crate::record::without_mark;
use crate::run::{check_finite, load_model};

/// A model that classifies texts.
#[derive(Debug)]
pub struct Classifier<B: ReformerBackend> {
    model: ReformerClassifier<B>,
    classes: Vec<String>,
    reading: Reading,
    /// The task of the Long Range Arena that a run was trained on, whose tokens are not always bytes.
    task: Option<LongRangeTask>,
    device: B::Device,
}

/// The class of a text, as a model predicts it.
#[derive(Debug, Clone, PartialEq)]
pub struct Classification {
    /// Name of the most probable class; of equal ones the first.
    pub class: String,
    /// Its probability.
    pub probability: f32,
    /// The probability of each class by its number, `[n_classes]`.
    pub probabilities: Vec<f32>,
}

impl<B: ReformerBackend> Classifier<B> {
    /// Opens the folder of a run of a classifier, or one of Hugging Face.
    ///
    /// # Errors
    /// A folder that is neither, a model of another kind, files that cannot be read, or weights that are not finite.
    pub fn open(folder: &Path, device: &B::Device) -> Result<Self, InferenceError> {
        let device = device.clone();
        if huggingface::head(folder).is_some() {
            let (model, config) = huggingface::load_classifier::<B>(folder, &device)?;
            check_finite(folder, &model)?;
            let max_length = model.reformer.position.max_length();
            return Ok(Self {
                model,
                classes: labels(folder, config.n_classes)?,
                reading: Reading::of_folder(folder, config.reformer.vocab_size, max_length)?,
                task: None,
                device,
            });
        }
        let (model, config) = load_model::<B>(folder, &device)?;
        Ok(Self {
            model: model.into_classifier()?,
            classes: load_classes(folder)?,
            reading: Reading::Run(config.window_length),
            task: match &config.data {
                DataConfig::LongRange(data) => Some(data.task()),
                _ => None,
            },
            device,
        })
    }

    /// The name of a class by its number.
    pub fn class_name(&self, number: usize) -> String {
        // A model can have more classes than its data.
        let name = self.classes.get(number).cloned();
        name.unwrap_or_else(|| format!("class {number}"))
    }

    /// Checks that a text has the form that the model's task needs, whatever its length.
    ///
    /// # Errors
    /// [`InferenceError::OtherForm`], for a run on a task of the Long Range Arena.
    pub fn check(&self, text: &str) -> Result<(), InferenceError> {
        match self.task {
            Some(task) => encode(task, text, usize::MAX).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Whether a text is longer than the model reads: only its beginning is then classified.
    pub fn is_cut(&self, text: &str) -> bool {
        match (self.task, &self.reading) {
            (Some(task), Reading::Run(max_length)) => {
                encode(task, text, usize::MAX).is_ok_and(|tokens| tokens.len() > *max_length)
            }
            (_, reading) => reading.is_cut(&[text]),
        }
    }

    /// The class of each text. All are computed as one batch.
    ///
    /// # Errors
    /// A text that the model cannot read.
    pub fn classify(&self, texts: &[&str]) -> Result<Vec<Classification>, InferenceError> {
        let Some(batch) = one_batch::<B>(&self.rows(texts)?, &self.device)? else {
            return Ok(vec![]);
        };
        let pass = Pass::eval().with_mask_pad(Some(batch.mask_pad));
        let probabilities = softmax(self.model.forward(batch.tokens, &pass), 1);
        let [_, n_classes] = probabilities.dims();
        let probabilities: Vec<f32> = probabilities.into_data().iter::<f32>().collect();
        let rows = probabilities.chunks(n_classes);
        Ok(rows.map(|row| self.classification(row.to_vec())).collect())
    }

    fn classification(&self, probabilities: Vec<f32>) -> Classification {
        let best = probabilities
            .iter()
            .copied()
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
        let (class, probability) = best.expect("a classifier has classes");
        Classification {
            class: self.class_name(class),
            probability,
            probabilities,
        }
    }

    fn rows(&self, texts: &[&str]) -> Result<LabelledRows, InferenceError> {
        match &self.reading {
            Reading::Run(max_length) => {
                if let Some(task) = self.task {
                    let row = |text: &&str| Ok((encode(task, text, *max_length)?, [0]));
                    let rows = texts
                        .iter()
                        .map(row)
                        .collect::<Result<Vec<_>, InferenceError>>()?;
                    return Ok(LabelledRows::new(task.vocab_size(), rows));
                }
                // Their classes are unknown: they are to be predicted.
                let texts = texts.iter().map(|text| ((*text).to_owned(), String::new()));
                let rows = LabelledTexts::new("input", texts).encode(*max_length);
                Ok(rows.rows().clone())
            }
            Reading::HuggingFace { codec, max_length } => {
                let row = |text: &&str| {
                    let tokens = tokens(codec, text, *max_length)?;
                    if tokens.is_empty() {
                        return Err(InferenceError::EmptyText);
                    }
                    Ok((tokens, [0]))
                };
                let rows = texts.iter().map(row).collect::<Result<Vec<_>, _>>()?;
                let vocab_size = self.model.reformer.vocab_size;
                Ok(LabelledRows::new(vocab_size, rows))
            }
        }
    }
}

/// The tokens of a text, as a task of the Long Range Arena reads it.
fn encode(task: LongRangeTask, text: &str, max_length: usize) -> Result<Vec<u16>, InferenceError> {
    let tokens = task.encode(text, max_length);
    tokens.map_err(|reason| InferenceError::OtherForm {
        task: task.name(),
        text: text.to_owned(),
        reason,
    })
}

/// Names of the classes in Hugging Face's configuration.
fn labels(folder: &Path, n_classes: usize) -> Result<Vec<String>, InferenceError> {
    let path = folder.join("config.json");
    let read = || -> io::Result<BTreeMap<String, String>> {
        let config: Value = serde_json::from_slice(without_mark(&fs::read(&path)?))?;
        match config.get("id2label") {
            Some(labels) => Ok(serde_json::from_value(labels.clone())?),
            None => Ok(BTreeMap::new()),
        }
    };
    let labels = read().map_err(|source| InferenceError::Labels {
        path: path.clone(),
        source,
    })?;
    let label = |number: usize| {
        let given = labels.get(&number.to_string());
        given.cloned().unwrap_or_else(|| format!("LABEL_{number}"))
    };
    Ok((0..n_classes).map(label).collect())
}
