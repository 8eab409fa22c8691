//! Question answering: answers are spans of the sequence.

use core::ops::Range;

use burn::config::Config;
use burn::module::Module;
use burn::nn::Linear;
use burn::optim::GradientsParams;
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Int, Tensor};

use super::{cross_entropy, head_gradients, projection};
use crate::error::ConfigError;
use crate::kernels::{ReformerBackend, TrainBackend};
use crate::linear::linear;
use crate::model::config::ReformerConfig;
use crate::model::loss::LossOutput;
use crate::model::reformer::Reformer;
use crate::model::trainable::{Loss, Trainable};
use crate::pass::Pass;
use crate::reversible::Mode;

/// Logit of a position where an answer cannot begin or end.
const NOWHERE: f64 = -1e9;

/// Configuration of a [`ReformerQuestionAnswering`].
#[derive(Config, Debug, PartialEq)]
pub struct ReformerQuestionAnsweringConfig {
    /// The stack. It is never causal, whatever this says.
    pub reformer: ReformerConfig,
    /// Maximum number of positions in an answer, for a search for the [best](SpanLogits::best) one.
    #[config(default = 256)]
    pub max_answer_length: usize,
}

impl ReformerQuestionAnsweringConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::at_least_one("max_answer_length", self.max_answer_length)?;
        self.reformer.validate()
    }

    /// Initialises the model.
    ///
    /// # Panics
    /// If the configuration is not [valid](Self::validate).
    pub fn init<B: Backend>(&self, device: &B::Device) -> ReformerQuestionAnswering<B> {
        let reformer = self.reformer.clone().with_causal(false);
        ReformerQuestionAnswering {
            reformer: reformer.init(device),
            output: projection(&reformer, 2 * reformer.d_model, 2, device),
        }
    }
}

/// Logits of each position as the start and the end of the answer.
#[derive(Debug, Clone)]
pub struct SpanLogits<B: Backend> {
    /// `[batch_size, seq_length]`.
    pub start: Tensor<B, 2>,
    /// Logits of the last position of the answer: `[batch_size, seq_length]`.
    pub end: Tensor<B, 2>,
}

impl<B: Backend> SpanLogits<B> {
    /// The same with padding masked.
    ///
    /// # Shapes
    /// - mask_pad: `[batch_size, seq_length]`, true where a position is padding
    pub fn without_padding(self, mask_pad: Option<Tensor<B, 2, Bool>>) -> Self {
        let Some(mask) = mask_pad else {
            return self;
        };
        Self {
            start: self.start.mask_fill(mask.clone(), NOWHERE),
            end: self.end.mask_fill(mask, NOWHERE),
        }
    }

    /// Mean cross-entropy of starts and ends, which count as separate targets. Positions outside
    /// the sequence are ignored.
    ///
    /// # Shapes
    /// - start, end: `[batch_size]`
    pub fn loss(self, start: Tensor<B, 1, Int>, end: Tensor<B, 1, Int>) -> LossOutput<B> {
        let start = cross_entropy(self.start, start);
        let end = cross_entropy(self.end, end);
        let nll = start.loss * start.n_targets.clone() + end.loss * end.n_targets.clone();
        LossOutput::of_sum(
            nll,
            start.n_correct + end.n_correct,
            start.n_targets + end.n_targets,
        )
    }

    /// First and last position of the best answer of each sequence, with at most `max_length`
    /// positions: the ordered pair with the largest sum of logits, the first one of equals.
    ///
    /// # Panics
    /// If `max_length` is 0.
    pub fn best(&self, max_length: usize) -> Vec<[usize; 2]> {
        let [batch_size, seq_length] = self.start.dims();
        let best = self.best_in(&vec![0..seq_length; batch_size], max_length);
        best.into_iter().map(|best| best.span).collect()
    }

    /// The same within a range of each sequence: the text without the question.
    ///
    /// # Panics
    /// If `max_length` is 0, if `places` does not have one range for each sequence, or if a range
    /// is not inside the sequence.
    pub fn best_in(&self, places: &[Range<usize>], max_length: usize) -> Vec<BestSpan> {
        assert!(max_length > 0, "an answer has a position");
        let [batch_size, seq_length] = self.start.dims();
        assert_eq!(places.len(), batch_size, "a place for each sequence");
        let [start, end] = [&self.start, &self.end].map(|logits| {
            let data = logits.to_data();
            data.iter::<f32>().collect::<Vec<f32>>()
        });
        let rows = start.chunks(seq_length).zip(end.chunks(seq_length));
        let rows = rows.zip(places);
        rows.map(|((start, end), place)| {
            let of_text = [start, end].map(|logits| &logits[place.clone()]);
            let (span, sum) = best_span(of_text[0], of_text[1], max_length);
            BestSpan {
                span: span.map(|position| place.start + position),
                lead: sum - (start[0] + end[0]),
            }
        })
        .collect()
    }
}

/// The best answer of a sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BestSpan {
    /// First and last position.
    pub span: [usize; 2],
    /// Its sum of logits minus that of the first position, which means "no answer" in data sets
    /// that have unanswerable questions.
    pub lead: f32,
}

fn best_span(start: &[f32], end: &[f32], max_length: usize) -> ([usize; 2], f32) {
    let (mut best, mut best_sum) = ([0, 0], f32::NEG_INFINITY);
    for (first, &of_start) in start.iter().enumerate() {
        let reach = end.len().min(first.saturating_add(max_length));
        for (last, &of_end) in end.iter().enumerate().take(reach).skip(first) {
            if of_start + of_end > best_sum {
                (best, best_sum) = ([first, last], of_start + of_end);
            }
        }
    }
    (best, best_sum)
}

/// A bidirectional [`Reformer`] that predicts the span of an answer in a sequence of question and
/// text.
///
/// ```
/// use burn::tensor::{Int, Tensor};
/// use burn_flex::Flex;
/// use reformer_core::Pass;
/// use reformer_core::model::{ReformerConfig, ReformerQuestionAnsweringConfig};
///
/// let device = Default::default();
/// let config = ReformerQuestionAnsweringConfig::new(ReformerConfig::new(256, 32, 2));
/// let model = config.init::<Flex>(&device);
/// let bytes = Tensor::<Flex, 2, Int>::zeros([1, 100], &device);
/// let [first, last] = model.forward(bytes, &Pass::eval()).best(20)[0];
/// assert!(first <= last && last < 100);
/// ```
#[derive(Module, Debug)]
pub struct ReformerQuestionAnswering<B: Backend> {
    /// The stack.
    pub reformer: Reformer<B>,
    /// Projection from hidden states to the logits of start and end.
    pub output: Linear<B>,
}

impl<B: Backend> ReformerQuestionAnswering<B> {
    /// The same weights with another mode of training.
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.reformer = self.reformer.with_mode(mode);
        self
    }
}

impl<B: ReformerBackend> ReformerQuestionAnswering<B> {
    /// Logits of start and end at every position.
    ///
    /// # Shapes
    /// - tokens: `[batch_size, seq_length]`
    ///
    /// # Panics
    /// If the sequence is longer than the positions allow.
    pub fn forward(&self, tokens: Tensor<B, 2, Int>, pass: &Pass<B>) -> SpanLogits<B> {
        self.spans(self.reformer.forward(tokens, pass))
    }

    fn spans(&self, hidden: Tensor<B, 3>) -> SpanLogits<B> {
        let logits = linear(&self.output, hidden);
        let [start, end] = [0, 1].map(|of| logits.clone().slice_dim(2, of..of + 1).squeeze_dim(2));
        SpanLogits { start, end }
    }
}

impl<B: ReformerBackend> Loss<B> for ReformerQuestionAnswering<B> {
    /// Tokens, `[batch_size, seq_length]`, and the first and last positions of the answers,
    /// `[batch_size]`. Padding cannot be an answer; positions outside the sequence are ignored.
    type Batch = (Tensor<B, 2, Int>, [Tensor<B, 1, Int>; 2]);

    fn loss(&self, (tokens, [start, end]): Self::Batch, pass: &Pass<B>) -> LossOutput<B> {
        let spans = self.forward(tokens, pass);
        let spans = spans.without_padding(pass.mask_pad().cloned());
        spans.loss(start, end)
    }
}

impl<B: TrainBackend> Trainable<B> for ReformerQuestionAnswering<B> {
    fn scaled_gradients(
        &self,
        (tokens, [start, end]): Self::Batch,
        pass: Pass<B>,
        scale: f64,
    ) -> (LossOutput<B::InnerBackend>, GradientsParams) {
        let mask_pad = pass.mask_pad().cloned();
        let parts = (&self.reformer, &self.output);
        head_gradients(parts, tokens, pass, scale, |hidden| {
            let spans = self.spans(hidden).without_padding(mask_pad);
            spans.loss(start, end)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_span_is_in_order_and_not_too_long() {
        let start = [0.0, 5.0, 1.0, 0.0, 4.0];
        let end = [9.0, 0.0, 2.0, 7.0, 1.0];
        assert_eq!(best_span(&start, &end, 5), ([1, 3], 12.0));
        assert_eq!(best_span(&start, &end, 2), ([0, 0], 9.0));
        assert_eq!(best_span(&start, &[0.0; 5], 3), ([1, 1], 5.0));
    }

    #[test]
    fn best_span_lies_in_the_text_and_is_compared_with_the_first_position() {
        let logits =
            |row: [f32; 5]| Tensor::<burn_flex::Flex, 2>::from_floats([row], &Default::default());
        let spans = SpanLogits {
            start: logits([1.0, 9.0, 2.0, 3.0, 9.0]),
            end: logits([0.5, 9.0, 0.0, 2.0, 9.0]),
        };
        let best = BestSpan {
            span: [3, 3],
            lead: 3.5,
        };
        let place = core::slice::from_ref(&(2..4));
        assert_eq!(spans.best_in(place, 5), [best]);
    }
}
