//! The position-wise feed-forward layer, which can process a sequence in chunks.

use burn::config::Config;
use burn::module::{Initializer, Module};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use crate::error::ConfigError;
use crate::kernels::ReformerBackend;
use crate::linear::linear;
use crate::pass::{Pass, dropout};

pub use crate::kernels::Activation;

/// Key purposes of the random numbers in a feed-forward layer.
mod purpose {
    pub(super) const HIDDEN: u64 = 0;
    pub(super) const OUTPUT: u64 = 1;
}

/// Configuration of [`FeedForward`].
#[derive(Config, Debug, PartialEq)]
pub struct FeedForwardConfig {
    /// Width of the input and the output.
    pub d_model: usize,
    /// Width of the hidden layer.
    pub d_ff: usize,
    /// Activation function of the hidden layer.
    #[config(default = "Activation::Gelu")]
    pub activation: Activation,
    /// Whether the activation of one projection is multiplied by another one (Shazeer, 2020).
    #[config(default = false)]
    pub gated: bool,
    /// Dropout rate in training, before the activation and at the output.
    #[config(default = 0.0)]
    pub dropout: f64,
    /// Initial distribution of the weights.
    #[config(default = "Initializer::XavierUniform{gain: 1.0}")]
    pub initializer: Initializer,
}

impl FeedForwardConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::at_least_one("d_model", self.d_model)?;
        ConfigError::at_least_one("d_ff", self.d_ff)?;
        ConfigError::share("dropout", self.dropout)
    }

    /// Initialises the layer; biases are zero.
    ///
    /// # Panics
    /// If the configuration is not [valid](Self::validate).
    pub fn init<B: Backend>(&self, device: &B::Device) -> FeedForward<B> {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        let projection = |d_input, d_output| Linear {
            weight: LinearConfig::new(d_input, d_output)
                .with_initializer(self.initializer.clone())
                .init::<B>(device)
                .weight,
            bias: Some(Initializer::Zeros.init([d_output], device)),
        };
        FeedForward {
            inner: projection(self.d_model, self.d_ff),
            gate: self.gated.then(|| projection(self.d_model, self.d_ff)),
            outer: projection(self.d_ff, self.d_model),
            activation: self.activation,
            dropout: self.dropout,
        }
    }
}

/// `outer(activation(inner(x)))`, or `outer(activation(gate(x)) * inner(x))` if gated.
///
/// Positions are independent of each other, so a long sequence can be processed in
/// [chunks](crate::in_chunks): activations of width `d_ff` then exist for one chunk only.
#[derive(Module, Debug)]
pub struct FeedForward<B: Backend> {
    /// Projection from `d_model` to `d_ff`.
    pub inner: Linear<B>,
    /// Projection from `d_model` to `d_ff`, if the layer is gated.
    pub gate: Option<Linear<B>>,
    /// Projection from `d_ff` to `d_model`.
    pub outer: Linear<B>,
    #[module(skip)]
    activation: Activation,
    dropout: f64,
}

impl<B: ReformerBackend> FeedForward<B> {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, seq_length, d_model]`
    pub fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let dropped = pass.dropout(self.dropout, purpose::HIDDEN);
        let hidden = match &self.gate {
            Some(gate) => {
                let hidden = dropout(linear(&self.inner, x.clone()), dropped);
                self.activated(gate, x) * hidden
            }
            None if dropped.is_none() => self.activated(&self.inner, x),
            None => B::activation(dropout(linear(&self.inner, x), dropped), self.activation),
        };
        let output = linear(&self.outer, hidden);
        dropout(output, pass.dropout(self.dropout, purpose::OUTPUT))
    }

    /// The activation of a projection.
    fn activated(&self, layer: &Linear<B>, x: Tensor<B, 3>) -> Tensor<B, 3> {
        match &layer.bias {
            Some(bias) if B::BIAS_WITH_ACTIVATION => {
                let product = B::linear_layer(x, layer.weight.val(), None);
                B::biased_activation(product, bias.val(), self.activation)
            }
            _ => B::activation(linear(layer, x), self.activation),
        }
    }
}
