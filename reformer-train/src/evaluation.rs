//! Evaluation of a trained model on data.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::ElementConversion;
use burn::tensor::backend::Backend;
use reformer_core::Pass;
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::{Loss, LossOutput};
use reformer_datasets::labelled::{ClassifiedRows, Questions};
use reformer_datasets::{ReadReport, Sequences};

use crate::config::TrainConfig;
use crate::data::batch::Batch;
use crate::data::pairs::Pairs;
use crate::data::{Content, Data, DataReport};
use crate::error::TrainError;
use crate::run::load_model;
use crate::task::model::{Model, ModelConfig};
use crate::task::task_heads::HeadLogits;

/// A model, in most cases that of a run, and data to evaluate it on.
#[derive(Debug)]
pub struct Evaluation<B: Backend> {
    /// The model.
    pub model: Model<B>,
    config: TrainConfig,
    data: Data,
}

/// The results of an evaluation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// Mean negative log-likelihood of the targets, in nats.
    pub loss: f64,
    /// Targets that got the largest logit.
    pub n_correct: usize,
    /// Targets, of which there is at least one.
    pub n_targets: usize,
    /// Mean bytes of text per target, if targets are not bytes and it is known.
    pub bytes_per_target: Option<f64>,
    /// For a classifier: the predicted class of each text.
    pub classes: Vec<usize>,
    /// For question answering: the answer to each question, empty where none was found.
    pub answers: Vec<String>,
}

impl<B: ReformerBackend> Evaluation<B> {
    /// Loads the model of a run and opens its validation data, or other files: all of them, read like
    /// those of the run. The mean loss over the run's data equals that of the run's last evaluation.
    ///
    /// # Errors
    /// A folder that does not contain a run, weights that cannot be read, or data that is missing, in
    /// another format or with other classes.
    pub fn open(folder: &Path, others: &[PathBuf], device: &B::Device) -> Result<Self, TrainError> {
        let (model, mut config) = load_model::<B>(folder, device)?;
        let data = if others.is_empty() {
            config.data.open_to_measure(config.wanted(), folder)?
        } else {
            config.eval_windows = None;
            config.data.open_others(config.wanted(), folder, others)?
        };
        Self::of(model, config, data)
    }

    /// Loads the model of a run and opens the part of its data that it neither trained nor validated on:
    /// of a text, or of a task of the Long Range Arena.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), or data without such a part.
    pub fn open_test(folder: &Path, device: &B::Device) -> Result<Self, TrainError> {
        let (model, mut config) = load_model::<B>(folder, device)?;
        config.eval_windows = None;
        let data = config.data.open_test(config.wanted())?;
        Self::of(model, config, data)
    }

    fn of(model: Model<B>, config: TrainConfig, data: Data) -> Result<Self, TrainError> {
        data.check(&config)?;
        Ok(Self {
            model,
            config,
            data,
        })
    }

    /// A model that is not of a run, such as one of Hugging Face, on any sequences. Of the configuration, only the
    /// model and the settings of evaluations matter. With the mean bytes of text per token, bits per byte are
    /// measured too.
    ///
    /// # Errors
    /// Sequences that are not for this model, or of another length.
    pub fn of_model(
        model: Model<B>,
        config: TrainConfig,
        sequences: Arc<dyn Sequences>,
        report: ReadReport,
        bytes_per_token: Option<f64>,
    ) -> Result<Self, TrainError> {
        let report = DataReport {
            bytes_per_token,
            ..DataReport::of_one(report)
        };
        let data = Data::of_sequences(sequences.clone(), sequences, report);
        data.check(&config)?;
        Ok(Self {
            model,
            config,
            data,
        })
    }

    /// Evaluates on the first sequences only.
    pub fn with_first(mut self, n_sequences: Option<usize>) -> Self {
        self.config.eval_windows = n_sequences.or(self.config.eval_windows);
        self
    }

    /// Evaluates on sequences of another length, with another batch size.
    pub fn with_length(mut self, length: usize, batch_size: usize) -> Self {
        self.config.window_length = length;
        self.config.batch_size = batch_size;
        self
    }

    /// The configuration of the run, or the given one.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// What was read; the data of the evaluation is listed as validation data.
    pub fn data_report(&self) -> &DataReport {
        self.data.report()
    }

    /// Pairs of sentences, if the model is an encoder-decoder.
    pub fn pairs(&self) -> Option<&Pairs> {
        match self.data.content() {
            Content::Pairs(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// Rows with classes, if the model is a classifier.
    pub fn classified(&self) -> Option<&ClassifiedRows> {
        match self.data.content() {
            Content::Classes(rows) => Some(rows),
            _ => None,
        }
    }

    /// Questions, if the model answers questions.
    pub fn questions(&self) -> Option<&Questions> {
        match self.data.content() {
            Content::Questions(asked) => Some(&asked.valid),
            _ => None,
        }
    }

    /// The first batch of the data.
    ///
    /// # Errors
    /// An invalid batch size or number of sequences.
    pub fn first_batch(&self, device: &B::Device) -> Result<Option<Batch<B>>, TrainError> {
        Ok(self.batches(1, device)?.pop())
    }

    /// The first `n` batches of the data, or all if there are fewer.
    ///
    /// # Errors
    /// An invalid batch size or number of sequences.
    pub fn batches(&self, n: usize, device: &B::Device) -> Result<Vec<Batch<B>>, TrainError> {
        let loader = self.data.valid_loader::<B>(&self.config, device)?;
        Ok(loader.iter().take(n).collect())
    }

    /// Number of sequences in the evaluation.
    ///
    /// # Errors
    /// An invalid batch size or number of sequences.
    pub fn n_sequences(&self, device: &B::Device) -> Result<usize, TrainError> {
        let loader = self.data.valid_loader::<B>(&self.config, device)?;
        Ok(loader.num_items())
    }

    /// Goes through the data once. `watch` gets the number of sequences done and their total; it may end
    /// the evaluation, whose result is then that of the sequences so far.
    ///
    /// # Errors
    /// An invalid batch size or number of sequences, or sequences without any target.
    pub fn measure(
        &self,
        device: &B::Device,
        mut watch: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Measured, TrainError> {
        let loader = self.data.valid_loader::<B>(&self.config, device)?;
        let mut measured = Measured {
            bytes_per_target: self.data_report().bytes_per_token,
            ..Measured::default()
        };
        let (mut sum, mut n_sequences) = (0.0, 0);
        let mut batches = loader.iter();
        while let Some(batch) = batches.next() {
            n_sequences += batch.targets().dims()[0];
            let loss = self.measure_batch(batch, &mut measured);
            let [mean, n_correct, n_targets] = [loss.loss, loss.n_correct, loss.n_targets]
                .map(|number| number.into_scalar().elem::<f64>());
            sum += mean * n_targets;
            measured.n_correct += n_correct as usize;
            measured.n_targets += n_targets as usize;
            let progress = batches.progress();
            if watch(progress.items_processed, progress.items_total).is_break() {
                break;
            }
        }
        if measured.n_targets == 0 {
            return Err(TrainError::NothingToMeasure {
                n_sequences,
                window_length: self.config.window_length,
            });
        }
        measured.loss = sum / measured.n_targets as f64;
        Ok(measured)
    }

    /// The loss of a batch. Predictions are appended to those of earlier batches.
    fn measure_batch(&self, batch: Batch<B>, measured: &mut Measured) -> LossOutput<B> {
        let Batch::Labelled(batch) = batch else {
            return self.model.loss(batch, &self.pass());
        };
        let logits = self.model.head_logits(&batch, &self.pass());
        match &logits {
            HeadLogits::Classes(logits) => {
                let classes = logits.clone().argmax(1).into_data();
                let classes = classes.iter::<i64>().map(|class| class as usize);
                measured.classes.extend(classes);
            }
            HeadLogits::Spans(spans) => {
                let questions = self.questions().expect("an answer has a question");
                let rows = batch.rows.iter().enumerate();
                let (asked, places): (Vec<_>, Vec<_>) = rows
                    .map(|(row, &number)| {
                        let question = questions.get(number).expect("it was asked");
                        let length = batch.length(row);
                        (question, question.context_start().min(length)..length)
                    })
                    .unzip();
                let best = spans.best_in(&places, self.max_answer_length());
                let answers = asked.into_iter().zip(best).map(|(question, best)| {
                    let is_found = best.lead >= 0.0 && best.lead.is_finite();
                    is_found.then(|| question.text_at(best.span))
                });
                measured
                    .answers
                    .extend(answers.map(Option::unwrap_or_default));
            }
        }
        logits.loss(&batch.targets)
    }

    /// The same pass as in the run's own evaluations.
    fn pass(&self) -> Pass<B> {
        Pass::eval().with_context(Some(self.config.window_length))
    }

    fn max_answer_length(&self) -> usize {
        match &self.config.model {
            ModelConfig::QuestionAnswering(config) => config.max_answer_length,
            _ => 1,
        }
    }
}

impl Measured {
    /// Loss in bits.
    pub fn bits(&self) -> f64 {
        self.loss / core::f64::consts::LN_2
    }

    /// Loss in bits per byte of text, for tokens of a tokenizer.
    pub fn bits_per_byte(&self) -> Option<f64> {
        Some(self.bits() / self.bytes_per_target?)
    }

    /// Share of targets that got the largest logit, in percent.
    pub fn accuracy(&self) -> f64 {
        100.0 * self.n_correct as f64 / self.n_targets.max(1) as f64
    }
}
