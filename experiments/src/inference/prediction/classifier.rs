//! Classifies texts with a trained model.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::tensor::activation::softmax;
use reformer_core::Pass;
use reformer_core::huggingface;
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::ReformerClassifier;
use reformer_datasets::labelled::{LabelledRows, LabelledTexts};
use reformer_datasets::long_range::LongRangeTask;
use reformer_datasets::shown;
use reformer_train::{DataConfig, check_finite, load_classes, load_model};
use serde_json::{Map, Value};

use super::reading::{Reading, tokens};
use super::records::Record;
use super::{Predict, one_batch, rounded};

/// The field that is classified.
const TEXT: &str = "text";

/// A model that classifies texts.
#[derive(Debug)]
pub struct TextClassifier<B: ReformerBackend> {
    model: ReformerClassifier<B>,
    classes: Vec<String>,
    reading: Reading,
    /// The task of the Long Range Arena that a run was trained on, whose tokens are not always bytes.
    task: Option<LongRangeTask>,
    device: B::Device,
}

impl<B: ReformerBackend> TextClassifier<B> {
    /// Opens the folder of a run of `train_classifier`, or one of Hugging Face.
    ///
    /// # Errors
    /// A folder that is neither, a model of another kind, files that cannot be read, or weights that are not finite.
    pub fn open(folder: &Path, device: &B::Device) -> Result<Self> {
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

    /// Names of the classes, by their numbers.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The probability of each class for each text.
    ///
    /// # Errors
    /// A text that the model cannot read.
    pub fn classify(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let Some(batch) = one_batch::<B>(&self.rows(texts)?, &self.device)? else {
            return Ok(vec![]);
        };
        let pass = Pass::eval().with_mask_pad(Some(batch.mask_pad));
        let probabilities = softmax(self.model.forward(batch.tokens, &pass), 1);
        let [_, n_classes] = probabilities.dims();
        let probabilities: Vec<f32> = probabilities.into_data().iter::<f32>().collect();
        Ok(probabilities
            .chunks(n_classes)
            .map(<[f32]>::to_vec)
            .collect())
    }

    fn rows(&self, texts: &[&str]) -> Result<LabelledRows> {
        match &self.reading {
            Reading::Run(max_length) => {
                if let Some(task) = self.task {
                    let row = |text: &&str| Ok((encode(task, text, *max_length)?, [0]));
                    let rows = texts.iter().map(row).collect::<Result<Vec<_>>>()?;
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
                        bail!("a text is empty, so there is nothing to read");
                    }
                    Ok((tokens, [0]))
                };
                let rows = texts.iter().map(row).collect::<Result<Vec<_>>>()?;
                let vocab_size = self.model.reformer.vocab_size;
                Ok(LabelledRows::new(vocab_size, rows))
            }
        }
    }
}

/// The tokens of a text, as a task of the Long Range Arena reads it.
fn encode(task: LongRangeTask, text: &str, max_length: usize) -> Result<Vec<u16>> {
    let tokens = task.encode(text, max_length).map_err(anyhow::Error::msg);
    tokens.with_context(|| format!("the task `{}` cannot read `{}`", task.name(), shown(text)))
}

/// Names of the classes in Hugging Face's configuration.
fn labels(folder: &Path, n_classes: usize) -> Result<Vec<String>> {
    let path = folder.join("config.json");
    let read = || -> Result<BTreeMap<String, String>> {
        let config: Value = serde_json::from_slice(&fs::read(&path)?)?;
        match config.get("id2label") {
            Some(labels) => Ok(serde_json::from_value(labels.clone())?),
            None => Ok(BTreeMap::new()),
        }
    };
    let labels = read().with_context(|| format!("`{}` has no labels", path.display()))?;
    let label = |number: usize| {
        let given = labels.get(&number.to_string());
        given.cloned().unwrap_or_else(|| format!("LABEL_{number}"))
    };
    Ok((0..n_classes).map(label).collect())
}

impl<B: ReformerBackend> Predict for TextClassifier<B> {
    fn check(&self, record: &Record) -> Result<()> {
        let text = record.text(TEXT)?;
        match self.task {
            Some(task) => encode(task, text, usize::MAX).map(|_| ()),
            None => Ok(()),
        }
    }

    fn is_cut(&self, record: &Record) -> bool {
        let is_cut = |text| match (self.task, &self.reading) {
            (Some(task), Reading::Run(max_length)) => {
                encode(task, text, usize::MAX).is_ok_and(|tokens| tokens.len() > *max_length)
            }
            (_, reading) => reading.is_cut(&[text]),
        };
        record.text(TEXT).is_ok_and(is_cut)
    }

    fn predict(&self, records: &mut [Record]) -> Result<()> {
        let texts = records.iter().map(|record| record.text(TEXT));
        let texts = texts.collect::<Result<Vec<_>>>()?;
        let probabilities = self.classify(&texts)?;
        for (record, probabilities) in records.iter_mut().zip(probabilities) {
            let name = |number: usize| match self.classes.get(number) {
                Some(name) => name.clone(),
                None => format!("class {number}"),
            };
            let best = probabilities
                .iter()
                .enumerate()
                .max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
            let (class, probability) = best.context("the model has no classes")?;
            record.set("class", name(class));
            record.set("probability", rounded(*probability));
            let all = probabilities.iter().enumerate();
            let all = all.map(|(number, probability)| (name(number), rounded(*probability)));
            record.set("probabilities", all.collect::<Map<_, _>>());
        }
        Ok(())
    }
}
