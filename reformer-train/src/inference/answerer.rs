//! Answers questions about texts with a trained model.

use std::ops::Range;
use std::path::Path;

use burn::tensor::Tensor;
use reformer_core::Pass;
use reformer_core::huggingface;
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::ReformerQuestionAnswering;
use reformer_datasets::labelled::{LabelledRows, Question, Questions};

use super::error::InferenceError;
use super::reading::{Reading, one_batch, tokens};
use crate::run::{check_finite, load_model};
use crate::task::model::ModelConfig;

/// A model that answers questions with a span of a text.
#[derive(Debug)]
pub struct Answerer<B: ReformerBackend> {
    model: ReformerQuestionAnswering<B>,
    max_answer_length: usize,
    reading: Reading,
    device: B::Device,
}

/// An answer of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The answer; nothing if the text has none.
    pub found: Option<Found>,
    /// Probability of this answer, or of the text having none.
    pub probability: f32,
}

/// A span of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its text, in whole characters.
    pub text: String,
    /// Its position, in characters; unknown with the pieces of Hugging Face.
    pub place: Option<Range<usize>>,
}

impl<B: ReformerBackend> Answerer<B> {
    /// Opens the folder of a run on questions, or one of Hugging Face.
    ///
    /// # Errors
    /// A folder that is neither, a model of another kind, files that cannot be read, or weights that are not finite.
    pub fn open(folder: &Path, device: &B::Device) -> Result<Self, InferenceError> {
        let device = device.clone();
        if huggingface::head(folder).is_some() {
            let (model, config) = huggingface::load_question_answering::<B>(folder, &device)?;
            check_finite(folder, &model)?;
            let max_length = model.reformer.position.max_length();
            return Ok(Self {
                model,
                max_answer_length: config.max_answer_length,
                reading: Reading::of_folder(folder, config.reformer.vocab_size, max_length)?,
                device,
            });
        }
        let (model, config) = load_model::<B>(folder, &device)?;
        let max_answer_length = match &config.model {
            ModelConfig::QuestionAnswering(config) => config.max_answer_length,
            _ => 1,
        };
        Ok(Self {
            model: model.into_question_answering()?,
            max_answer_length,
            reading: Reading::Run(config.window_length),
            device,
        })
    }

    /// Whether a question and its text are longer than the model reads: only their beginning is then searched.
    pub fn is_cut(&self, question: &str, text: &str) -> bool {
        self.reading.is_cut(&[question, text])
    }

    /// The best answer to each question, which comes with the text that it is about. All are computed as one batch.
    ///
    /// # Errors
    /// A question that the model cannot read.
    pub fn answer(&self, asked: &[(&str, &str)]) -> Result<Vec<Answer>, InferenceError> {
        let question = |&(question, text): &(&str, &str)| Question {
            id: String::new(),
            question: question.to_owned(),
            context: text.into(),
            answers: vec![],
        };
        let questions = Questions::new("input", asked.iter().map(question).collect());
        let (rows, starts) = self.rows(&questions)?;
        let Some(batch) = one_batch::<B>(&rows, &self.device)? else {
            return Ok(vec![]);
        };
        let places: Vec<Range<usize>> = (0..rows.len())
            .map(|row| {
                let length = rows.tokens(row).len();
                starts[row].min(length)..length
            })
            .collect();
        let mask_pad = Some(batch.mask_pad);
        let pass = Pass::eval().with_mask_pad(mask_pad.clone());
        let spans = self.model.forward(batch.tokens, &pass);
        let spans = spans.without_padding(mask_pad);
        let best = spans.best_in(&places, self.max_answer_length);
        let [start, end] = [spans.start, spans.end].map(by_rows);
        let mut answers = Vec::new();
        for (row, (best, place)) in best.into_iter().zip(places).enumerate() {
            // The first position means that there is no answer.
            let is_found = best.lead >= 0.0 && best.lead.is_finite();
            let span = if is_found { best.span } else { [0, 0] };
            let share = |logits: &[f32], at: usize| {
                let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let all = std::iter::once(logits[0]).chain(logits[place.clone()].iter().copied());
                let sum: f32 = all.map(|logit| (logit - largest).exp()).sum();
                (logits[at] - largest).exp() / sum
            };
            let probability = share(&start[row], span[0]) * share(&end[row], span[1]);
            let found = match is_found {
                true => Some(self.found(&questions, &rows, row, span)?),
                false => None,
            };
            answers.push(Answer { found, probability });
        }
        Ok(answers)
    }

    /// Rows of tokens, and the position in each row where the text begins.
    fn rows(&self, questions: &Questions) -> Result<(LabelledRows, Vec<usize>), InferenceError> {
        match &self.reading {
            Reading::Run(max_length) => {
                let starts = questions.iter().map(Question::context_start).collect();
                Ok((questions.encode(*max_length), starts))
            }
            Reading::HuggingFace { codec, max_length } => {
                let (mut rows, mut starts) = (Vec::new(), Vec::new());
                for question in questions.iter() {
                    let mut row = tokens(codec, &question.question, *max_length)?;
                    starts.push(row.len());
                    let left = max_length - row.len();
                    row.extend(tokens(codec, &question.context, left)?);
                    if row.is_empty() {
                        return Err(InferenceError::EmptyText);
                    }
                    rows.push((row, [-1, -1]));
                }
                let vocab_size = self.model.reformer.vocab_size;
                Ok((LabelledRows::new(vocab_size, rows), starts))
            }
        }
    }

    /// The text between two positions of a row.
    fn found(
        &self,
        questions: &Questions,
        rows: &LabelledRows,
        row: usize,
        span: [usize; 2],
    ) -> Result<Found, InferenceError> {
        match &self.reading {
            Reading::Run(_) => {
                let question = questions.get(row).expect("each row is of a question");
                let place = question.range_at(span);
                let n_chars = |text: &str| text.chars().count();
                let start = n_chars(&question.context[..place.start]);
                let text = question.context[place].to_owned();
                let place = start..start + n_chars(&text);
                Ok(Found {
                    text,
                    place: Some(place),
                })
            }
            Reading::HuggingFace { codec, .. } => {
                let tokens = &rows.tokens(row)[span[0]..=span[1]];
                let tokens: Vec<u32> = tokens.iter().map(|&token| token.into()).collect();
                let text = String::from_utf8_lossy(&codec.decode(&tokens)?).into_owned();
                // A character that is cut at either end is dropped.
                let text = text.trim_matches('\u{fffd}').to_owned();
                Ok(Found { text, place: None })
            }
        }
    }
}

fn by_rows<B: ReformerBackend>(logits: Tensor<B, 2>) -> Vec<Vec<f32>> {
    let [_, length] = logits.dims();
    let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
    logits.chunks(length).map(<[f32]>::to_vec).collect()
}
