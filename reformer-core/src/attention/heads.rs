//! Projections into heads and back, and how queries and keys are made.

use burn::config::Config;
use burn::module::{Initializer, Module};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use crate::error::ConfigError;
use crate::kernels::{KEY_EPSILON, Keys, Qkv, ReformerBackend, Rotation};
use crate::linear::linear;

/// Settings that all kinds of attention share.
#[derive(Config, Debug, PartialEq)]
pub struct HeadsConfig {
    /// Width of the input and the output.
    pub d_model: usize,
    /// Number of heads.
    pub n_heads: usize,
    /// Width of a head. Default: `d_model / n_heads`, which must then be an integer.
    pub d_head: Option<usize>,
    /// No position sees a later one.
    #[config(default = true)]
    pub causal: bool,
    /// Share of attention weights dropped in training.
    #[config(default = 0.0)]
    pub dropout: f64,
    /// Factor of the logits. Default: 1 where the key is the normalised query (as in the paper's
    /// code and Hugging Face; reformer_pytorch takes `1 / sqrt(d_head)`), `1 / sqrt(d_head)` where
    /// keys have their own projection.
    pub logit_scale: Option<f64>,
    /// Fixed length of all queries where the key is the normalised query, as in query-key
    /// normalisation (Henry et al. 2020). A logit is then this times `logit_scale` times the cosine
    /// of the angle. Hashing depends on angles alone: without longer queries, a model can only
    /// sharpen attention by smaller angles, which hashing finds. Default: the length that the
    /// projection gives.
    pub query_length: Option<f64>,
    /// Base of rotary position embeddings, usually 10,000. Queries and keys are rotated after
    /// hashing. Default: none.
    pub rotary_base: Option<f64>,
    /// Initial distribution of the weights.
    #[config(default = "Initializer::XavierUniform{gain: 1.0}")]
    pub initializer: Initializer,
}

impl HeadsConfig {
    /// Width of a head.
    pub fn head_width(&self) -> usize {
        self.d_head.unwrap_or(self.d_model / self.n_heads.max(1))
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::at_least_one("d_model", self.d_model)?;
        ConfigError::at_least_one("n_heads", self.n_heads)?;
        ConfigError::share("attention dropout", self.dropout)?;
        match self.d_head {
            Some(d_head) => ConfigError::at_least_one("d_head", d_head)?,
            None if !self.d_model.is_multiple_of(self.n_heads) => {
                return Err(ConfigError::new(
                    "n_heads",
                    self.n_heads,
                    format!("it must divide `d_model` ({})", self.d_model),
                    "change one of them or set `d_head`",
                ));
            }
            None => {}
        }
        if self.rotary_base.is_some() && !self.head_width().is_multiple_of(2) {
            return Err(ConfigError::new(
                "d_head",
                self.head_width(),
                "rotary positions rotate pairs of features",
                "make it even",
            ));
        }
        Ok(())
    }

    /// Initialises projections with keys of their own.
    ///
    /// # Panics
    /// If the configuration is not [valid](Self::validate).
    pub fn init<B: Backend>(&self, device: &B::Device) -> Heads<B> {
        self.projections(false, device)
    }

    /// Initialises projections in which the key of a position is its normalised query.
    ///
    /// # Panics
    /// If the configuration is not [valid](Self::validate).
    pub fn init_shared_qk<B: Backend>(&self, device: &B::Device) -> Heads<B> {
        self.projections(true, device)
    }

    pub(super) fn projections<B: Backend>(&self, share_qk: bool, device: &B::Device) -> Heads<B> {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        let width = self.n_heads * self.head_width();
        let projection = |d_input, d_output| {
            LinearConfig::new(d_input, d_output)
                .with_bias(false)
                .with_initializer(self.initializer.clone())
                .init(device)
        };
        let scale = match self.logit_scale {
            Some(scale) => scale,
            None if share_qk => 1.0,
            None => 1.0 / (self.head_width() as f64).sqrt(),
        };
        Heads {
            query: projection(self.d_model, width),
            key: (!share_qk).then(|| projection(self.d_model, width)),
            value: projection(self.d_model, width),
            output: projection(width, self.d_model),
            n_heads: self.n_heads,
            logit_scale: scale,
            query_length: self.query_length.filter(|_| share_qk),
            rotary_base: self.rotary_base,
        }
    }
}

/// Projections from a sequence to the queries, keys and values of heads, and back.
#[derive(Module, Debug)]
pub struct Heads<B: Backend> {
    /// Query projection (queries and keys at once if there is no `key`), without bias.
    pub query: Linear<B>,
    /// Key projection, unless keys are the normalised queries; without bias.
    pub key: Option<Linear<B>>,
    /// Value projection, without bias.
    pub value: Linear<B>,
    /// Output projection from the heads back to `d_model`, without bias.
    pub output: Linear<B>,
    /// Number of heads.
    pub n_heads: usize,
    /// Factor of the logits.
    pub logit_scale: f64,
    /// Fixed length of all queries, if any.
    pub query_length: Option<f64>,
    /// Base of rotary position embeddings, if any.
    pub rotary_base: Option<f64>,
}

impl<B: ReformerBackend> Heads<B> {
    /// Whether the key of a position is its normalised query.
    pub fn share_qk(&self) -> bool {
        self.key.is_none()
    }

    /// Queries for hashing: before any rotation by position.
    ///
    /// # Shapes
    /// - x: `[batch_size, seq_length, d_model]`
    /// - output: `[batch_size, n_heads, seq_length, d_head]`
    pub fn queries(&self, x: Tensor<B, 3>) -> Tensor<B, 4> {
        let queries = self.split(linear(&self.query, x));
        match self.query_length {
            Some(length) => with_length(queries, length),
            None => queries,
        }
    }

    /// Inputs of the attention kernels, from [`queries`](Self::queries) and the sequence they
    /// attend to: rotated by position, with the logit scale in the keys.
    ///
    /// # Shapes
    /// - queries: `[batch_size, n_heads, seq_length, d_head]`
    /// - x: `[batch_size, n_keys, d_model]`
    pub fn queries_keys_values(&self, queries: Tensor<B, 4>, x: Tensor<B, 3>) -> Qkv<B> {
        self.qkv(queries, x, |heads, base| {
            B::rotate(heads, base, Rotation::Apply)
        })
    }

    /// The same for a single position of each sequence.
    ///
    /// # Shapes
    /// - queries: `[batch_size, n_heads, 1, d_head]`
    /// - x: `[batch_size, 1, d_model]`
    /// - positions: `[batch_size]`
    pub(crate) fn queries_keys_values_at(
        &self,
        queries: Tensor<B, 4>,
        x: Tensor<B, 3>,
        positions: &[usize],
    ) -> Qkv<B> {
        self.qkv(queries, x, |heads, base| {
            B::rotate_at(heads, positions, base)
        })
    }

    fn qkv(
        &self,
        queries: Tensor<B, 4>,
        x: Tensor<B, 3>,
        rotate: impl Fn(Tensor<B, 4>, f64) -> Tensor<B, 4>,
    ) -> Qkv<B> {
        let rotate = |heads| match self.rotary_base {
            Some(base) => rotate(heads, base),
            None => heads,
        };
        let keys = match self.projected_keys(x.clone()) {
            Some(keys) => Keys::Own(rotate(keys) * self.logit_scale),
            None => Keys::UnitQueries(self.logit_scale),
        };
        Qkv {
            q: rotate(queries),
            keys,
            v: self.values(x),
        }
    }

    /// Keys from their own projection, neither rotated nor scaled: `None` where keys are queries.
    ///
    /// # Shapes
    /// - x: `[batch_size, n_keys, d_model]`
    /// - output: `[batch_size, n_heads, n_keys, d_head]`
    pub(super) fn projected_keys(&self, x: Tensor<B, 3>) -> Option<Tensor<B, 4>> {
        let key = self.key.as_ref()?;
        Some(self.split(linear(key, x)))
    }

    /// Values.
    ///
    /// # Shapes
    /// - x: `[batch_size, n_keys, d_model]`
    /// - output: `[batch_size, n_heads, n_keys, d_head]`
    pub(super) fn values(&self, x: Tensor<B, 3>) -> Tensor<B, 4> {
        self.split(linear(&self.value, x))
    }

    /// Merges the heads and applies the output projection.
    ///
    /// # Shapes
    /// - heads: `[batch_size, n_heads, seq_length, d_head]`
    /// - output: `[batch_size, seq_length, d_model]`
    pub fn join(&self, heads: Tensor<B, 4>) -> Tensor<B, 3> {
        let [batch_size, n_heads, seq_length, d_head] = heads.dims();
        let joined = heads
            .swap_dims(1, 2)
            .reshape([batch_size, seq_length, n_heads * d_head]);
        linear(&self.output, joined)
    }

    fn split(&self, x: Tensor<B, 3>) -> Tensor<B, 4> {
        let [batch_size, seq_length, width] = x.dims();
        x.reshape([batch_size, seq_length, self.n_heads, width / self.n_heads])
            .swap_dims(1, 2)
    }
}

/// Scales vectors to `length` without changing their direction; zero vectors stay zero.
///
/// # Shapes
/// - x: `[batch_size, n_heads, seq_length, d_head]`
fn with_length<B: Backend>(x: Tensor<B, 4>, length: f64) -> Tensor<B, 4> {
    // The same formula that normalises keys.
    let width = x.dims()[3] as f64;
    let mean_square = x.clone().powi_scalar(2).mean_dim(3);
    x * ((mean_square + KEY_EPSILON).sqrt().recip() * (length / width.sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Distribution, Tolerance};
    use burn_flex::Flex;

    fn heads(share_qk: bool) -> Heads<Flex> {
        HeadsConfig::new(16, 2)
            .with_query_length(Some(3.0))
            .projections(share_qk, &Default::default())
    }

    #[test]
    fn queries_are_as_long_as_said_and_zero_stays_zero() {
        let x = Tensor::random(
            [2, 5, 16],
            Distribution::Normal(0.0, 1.0),
            &Default::default(),
        );
        let queries = heads(true).queries(x.clone());
        let lengths = queries.clone().powi_scalar(2).sum_dim(3).sqrt().into_data();
        let expected = Tensor::<Flex, 4>::full([2, 2, 5, 1], 3.0, &Default::default()).into_data();
        lengths.assert_approx_eq::<f32>(&expected, Tolerance::relative(1e-4));
        let none = heads(true).queries(x.zeros_like()).into_data();
        assert!(none.iter::<f32>().all(|number| number == 0.0));
    }

    #[test]
    fn queries_with_keys_of_their_own_keep_their_length() {
        let heads = heads(false);
        let x = Tensor::random(
            [1, 3, 16],
            Distribution::Normal(0.0, 1.0),
            &Default::default(),
        );
        let expected = heads.split(linear(&heads.query, x.clone())).into_data();
        heads.queries(x).into_data().assert_eq(&expected, true);
    }
}
