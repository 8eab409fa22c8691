//! Evaluates trained models token by token, with the decoder's cache.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use reformer_core::generation::{DecodingConfig, LmDecoder, StepDecoder};
use reformer_core::kernels::{ReformerBackend, TrainBackend};
use reformer_core::model::ReformerLm;
use reformer_train::metrics::Quantity;
use reformer_train::{TrainConfig, load_model};
use serde::{Deserialize, Serialize};

use super::LayerResult;
use super::task::{EvaluationLength, Task};
use crate::cli::device::{self, Job};
use crate::measure::median::median;
use crate::study::{Study, Trained, Training};

/// Result at one length.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Decoded {
    /// Tokens of a sequence.
    pub(super) length: usize,
    /// Number of pairs or sentences in it.
    pub(super) n: usize,
    n_right: usize,
    n_asked: usize,
    /// Median time of a token with the cache, in milliseconds.
    pub(super) token_ms: f64,
    /// Median time to read everything before the questions at once, in seconds.
    prefill_seconds: f64,
}

impl Decoded {
    /// Right answers, in percent.
    pub(super) fn right(&self) -> f64 {
        100.0 * self.n_right as f64 / self.n_asked as f64
    }
}

impl LayerResult {
    /// Summarises a training.
    ///
    /// # Errors
    /// A training that was never evaluated.
    pub(super) fn new(
        variant: &str,
        training: &Training,
        trained: &Trained,
        decoded: Vec<Decoded>,
    ) -> Result<Self> {
        let last = trained.rows.iter().rfind(|row| row.split == "valid");
        let last = last.with_context(|| format!("`{}` was never evaluated", training.key))?;
        let get = |quantity| last.get(quantity).unwrap_or(f64::NAN);
        Ok(Self {
            variant: variant.to_owned(),
            seed: training.config.seed,
            trained: get(Quantity::Accuracy),
            step_seconds: get(Quantity::Seconds) / last.step as f64,
            steps: last.step,
            decoded,
        })
    }
}

/// Evaluates a trained model at several lengths.
pub(super) fn decode(
    study: &Study,
    task: Task,
    trained: &Trained,
    evaluated: EvaluationLength,
) -> Result<Decoded> {
    let job = Ask {
        task,
        trained,
        evaluated,
    };
    device::run(study.device(), job)
}

struct Ask<'a> {
    task: Task,
    trained: &'a Trained,
    evaluated: EvaluationLength,
}

impl Job<Decoded> for Ask<'_> {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<Decoded> {
        let (model, config) = load_model::<B::InnerBackend>(&self.trained.folder, &device)?;
        let model = model.into_lm()?;
        ask(&model, &config, self.task, self.evaluated)
    }
}

/// Reads everything before the questions at once, then one token after the other.
fn ask<B: ReformerBackend>(
    model: &ReformerLm<B>,
    config: &TrainConfig,
    task: Task,
    evaluated: EvaluationLength,
) -> Result<Decoded> {
    let EvaluationLength {
        length,
        n,
        n_sequences,
    } = evaluated;
    let (sequences, end) = task.sequences(config, evaluated)?;
    let (mut tokens, mut targets) = (vec![0; length], vec![0; length]);
    // Settings that follow from a length use the length of training.
    let decoding = DecodingConfig::new(config.window_length).with_max_length(Some(length));
    let [mut n_right, mut n_asked] = [0; 2];
    let (mut prefills, mut steps) = (Vec::new(), Vec::new());
    for number in 0..n_sequences {
        sequences.read(number, &mut tokens, &mut targets);
        let words: Vec<u32> = tokens.iter().map(|&token| token as u32).collect();
        let (before, questions) = words.split_at(length - end);
        let begin = Instant::now();
        let (mut decoder, _) = LmDecoder::prefill(model, &[before.to_vec()], &decoding)?;
        prefills.push(begin.elapsed().as_secs_f64());
        for (&token, &target) in questions.iter().zip(&targets[length - end..]) {
            let begin = Instant::now();
            let logits = decoder.step(&[token])?;
            steps.push(begin.elapsed().as_secs_f64());
            if target >= 0 {
                n_asked += 1;
                n_right += usize::from(largest(logits.row(0)) == target as usize);
            }
        }
    }
    ensure!(n_asked > 0, "nothing is asked for in {length} tokens");
    Ok(Decoded {
        length,
        n,
        n_right,
        n_asked,
        token_ms: 1e3 * median(steps),
        prefill_seconds: median(prefills),
    })
}

fn largest(logits: &[f32]) -> usize {
    let places = logits.iter().enumerate();
    let largest = places.max_by(|(_, a), (_, b)| a.total_cmp(b));
    largest.map_or(0, |(place, _)| place)
}
