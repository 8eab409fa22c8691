//! Classification of sequences.

use burn::config::Config;
use burn::module::Module;
use burn::nn::Linear;
use burn::optim::GradientsParams;
use burn::tensor::activation::log_sigmoid;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

use super::{cross_entropy, head_gradients, projection};
use crate::error::ConfigError;
use crate::kernels::{ReformerBackend, TrainBackend};
use crate::linear::linear;
use crate::model::config::ReformerConfig;
use crate::model::limits;
use crate::model::loss::LossOutput;
use crate::model::reformer::Reformer;
use crate::model::trainable::{Loss, Trainable};
use crate::pass::{Pass, dropout};
use crate::reversible::Mode;

/// Purpose of the head's key, among those of the stack.
const HEAD: u64 = 3;

/// Configuration of a [`ReformerClassifier`].
#[derive(Config, Debug, PartialEq)]
pub struct ReformerClassifierConfig {
    /// The stack. It is never causal, whatever this says.
    pub reformer: ReformerConfig,
    /// Number of classes, or of values to predict.
    pub n_classes: usize,
    /// Dropout rate of the head in training. Default: that of the stack.
    pub dropout: Option<f64>,
}

impl ReformerClassifierConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::at_least_one("n_classes", self.n_classes)?;
        ConfigError::at_most("n_classes", self.n_classes, limits::MAX_WIDTH)?;
        ConfigError::share("dropout", self.dropout.unwrap_or(0.0))?;
        self.reformer.validate()
    }

    /// Initialises the model.
    ///
    /// # Panics
    /// If the configuration is not [valid](Self::validate).
    pub fn init<B: Backend>(&self, device: &B::Device) -> ReformerClassifier<B> {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        let reformer = self.reformer.clone().with_causal(false);
        let d_model = reformer.d_model;
        ReformerClassifier {
            head: ClassificationHead {
                dense: projection(&reformer, 2 * d_model, d_model, device),
                output: projection(&reformer, d_model, self.n_classes, device),
                dropout: self.dropout.unwrap_or(reformer.dropout),
            },
            reformer: reformer.init(device),
        }
    }
}

/// Labels of sequences, for the loss.
#[derive(Debug, Clone)]
pub enum Labels<B: Backend> {
    /// The class of each sequence, for cross-entropy: `[batch_size]`. Values that are not a class
    /// are ignored.
    Class(Tensor<B, 1, Int>),
    /// 1 for each class of a sequence and 0 for the others, for binary cross-entropy:
    /// `[batch_size, n_classes]`.
    Classes(Tensor<B, 2>),
    /// Numbers, for the mean square error: `[batch_size, n_classes]`.
    Values(Tensor<B, 2>),
}

impl<B: Backend> Labels<B> {
    /// Mean loss of logits. Counted as correct: the class with the largest logit; each class whose
    /// logit has the right sign; for values, none.
    ///
    /// # Shapes
    /// - logits: `[batch_size, n_classes]`
    pub fn loss(self, logits: Tensor<B, 2>) -> LossOutput<B> {
        let n_logits =
            Tensor::from_floats([logits.shape().num_elements() as f32], &logits.device());
        match self {
            Self::Class(classes) => cross_entropy(logits, classes),
            Self::Classes(is_in) => {
                let is_out = is_in.ones_like() - is_in.clone();
                let sides = logits.clone().greater_elem(0.0);
                let n_correct = sides.equal(is_in.clone().greater_elem(0.5)).float().sum();
                let log_probs = is_in * log_sigmoid(logits.clone()) + is_out * log_sigmoid(-logits);
                LossOutput {
                    loss: -log_probs.mean(),
                    n_correct,
                    n_targets: n_logits,
                    drift: None,
                }
            }
            Self::Values(values) => LossOutput {
                loss: (logits - values).square().mean(),
                n_correct: n_logits.zeros_like(),
                n_targets: n_logits,
                drift: None,
            },
        }
    }
}

/// `output(tanh(dense(hidden state of the first position)))`, as in Hugging Face.
#[derive(Module, Debug)]
pub struct ClassificationHead<B: Backend> {
    /// From `2 * d_model` to `d_model`.
    pub dense: Linear<B>,
    /// From `d_model` to classes.
    pub output: Linear<B>,
    dropout: f64,
}

impl<B: ReformerBackend> ClassificationHead<B> {
    /// Logits of classes.
    ///
    /// # Shapes
    /// - hidden: `[batch_size, seq_length, 2 * d_model]`
    /// - output: `[batch_size, n_classes]`
    pub fn forward(&self, hidden: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 2> {
        let first = hidden.slice_dim(1, 0..1);
        let first = dropout(first, pass.dropout(self.dropout, 0));
        let hidden = linear(&self.dense, first).tanh();
        let hidden = dropout(hidden, pass.dropout(self.dropout, 1));
        linear(&self.output, hidden).squeeze_dim(1)
    }
}

/// A bidirectional [`Reformer`] that classifies sequences from the hidden state of their first
/// position.
///
/// ```
/// use burn::tensor::{Int, Tensor};
/// use burn_autodiff::Autodiff;
/// use burn_flex::Flex;
/// use reformer_core::model::{Labels, ReformerClassifierConfig, ReformerConfig, Trainable};
/// use reformer_core::{Key, Pass};
///
/// let device = Default::default();
/// let config = ReformerClassifierConfig::new(ReformerConfig::new(256, 32, 2), 3);
/// let model = config.init::<Autodiff<Flex>>(&device);
/// let bytes = Tensor::<_, 2, Int>::zeros([2, 100], &device);
/// let labels = Labels::Class(Tensor::from_ints([2, 0], &device));
/// let (loss, gradients) = model.gradients((bytes, labels), Pass::train(Key::new(1)));
/// # assert!(loss.loss.into_scalar() > 0.0 && gradients.len() > 0);
/// ```
#[derive(Module, Debug)]
pub struct ReformerClassifier<B: Backend> {
    /// The stack.
    pub reformer: Reformer<B>,
    /// The head, from the first position to logits.
    pub head: ClassificationHead<B>,
}

impl<B: Backend> ReformerClassifier<B> {
    /// The same weights with another mode of training.
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.reformer = self.reformer.with_mode(mode);
        self
    }
}

impl<B: ReformerBackend> ReformerClassifier<B> {
    /// Logits of the classes of each sequence.
    ///
    /// # Shapes
    /// - tokens: `[batch_size, seq_length]`
    /// - output: `[batch_size, n_classes]`
    ///
    /// # Panics
    /// If the sequence is longer than the positions allow.
    pub fn forward(&self, tokens: Tensor<B, 2, Int>, pass: &Pass<B>) -> Tensor<B, 2> {
        let hidden = self.reformer.forward(tokens, pass);
        self.head.forward(hidden, &pass.fold(HEAD))
    }
}

impl<B: ReformerBackend> Loss<B> for ReformerClassifier<B> {
    /// Tokens, `[batch_size, seq_length]`, and labels.
    type Batch = (Tensor<B, 2, Int>, Labels<B>);

    fn loss(&self, (tokens, labels): Self::Batch, pass: &Pass<B>) -> LossOutput<B> {
        labels.loss(self.forward(tokens, pass))
    }
}

impl<B: TrainBackend> Trainable<B> for ReformerClassifier<B> {
    fn scaled_gradients(
        &self,
        (tokens, labels): Self::Batch,
        pass: Pass<B>,
        scale: f64,
    ) -> (LossOutput<B::InnerBackend>, GradientsParams) {
        let of_head = pass.fold(HEAD);
        let parts = (&self.reformer, &self.head);
        head_gradients(parts, tokens, pass, scale, |hidden| {
            labels.loss(self.head.forward(hidden, &of_head))
        })
    }
}
