//! Attention among positions that locality-sensitive hashing puts into one bucket.

mod config;

use burn::config::Config;
use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Tensor};

pub use self::config::{ExactUpTo, LshConfig, Window};
use super::hashing::{Buckets, hash, rotations};
use super::{Attended, Heads, HeadsConfig, ProjectedAttention, Reach, purpose};
use crate::error::ConfigError;
use crate::kernels::{Masking, Qkv, ReformerBackend, Slots, TiledAttention};
use crate::pass::Pass;
use crate::random::Key;

/// Configuration of [`LshAttention`].
#[derive(Config, Debug, PartialEq)]
pub struct LshAttentionConfig {
    /// Heads and projections.
    pub heads: HeadsConfig,
    /// Hashing, rounds and window.
    pub lsh: LshConfig,
    /// Seed of the hash rotations used outside of training.
    #[config(default = 0)]
    pub hash_seed: u64,
}

impl LshAttentionConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.heads.validate()?;
        self.lsh.validate()
    }

    /// Initialises the layer.
    ///
    /// # Panics
    /// If the configuration is not [valid](Self::validate).
    pub fn init<B: Backend>(&self, device: &B::Device) -> LshAttention<B> {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        LshAttention {
            heads: self.heads.init_shared_qk(device),
            rotations: None,
            config: self.clone(),
        }
    }
}

/// Attention with shared queries and keys: each query attends to keys with similar hashes.
///
/// ```
/// use burn::tensor::{Distribution, Tensor};
/// use burn_flex::Flex;
/// use reformer_core::Pass;
/// use reformer_core::attention::{HeadsConfig, LshAttentionConfig, LshConfig};
///
/// let device = Default::default();
/// let lsh = LshConfig::new().with_n_rounds(4);
/// let attention = LshAttentionConfig::new(HeadsConfig::new(32, 2), lsh).init::<Flex>(&device);
///
/// let x = Tensor::random([1, 300, 32], Distribution::Default, &device);
/// let attended = attention.forward(x, &Pass::eval());
/// assert_eq!(attended.output.dims(), [1, 300, 32]);
/// assert_eq!(attended.buckets.unwrap().dims(), [1, 2, 4, 300]);
/// ```
#[derive(Module, Debug)]
pub struct LshAttention<B: Backend> {
    /// Projections; the key of a position is its normalised query.
    pub heads: Heads<B>,
    /// Fixed hash rotations, used in training and evaluation instead of random ones:
    /// `[n_heads, d_head, n_rounds, sum(factors) / 2]`. See [`with_rotations`](Self::with_rotations).
    pub rotations: Option<Param<Tensor<B, 4>>>,
    #[module(skip)]
    pub(crate) config: LshAttentionConfig,
}

/// Which keys the queries of a sequence see.
pub(super) struct Routing<B: Backend> {
    /// Hash buckets: `[batch_size, n_heads, n_rounds, seq_length]`.
    buckets: Tensor<B, 4, Int>,
    pub(super) slots: Slots<B>,
    pub(super) rules: TiledAttention,
    /// Number of hash buckets.
    pub(super) n_buckets: usize,
}

impl<B: ReformerBackend> LshAttention<B> {
    /// Fixes the hash rotations, for a checkpoint that was trained with them or to compare with
    /// another implementation. They become part of the module's record and are not trained. The
    /// number of buckets must not be automatic, or must fit every length in use.
    /// # Shapes
    /// - rotations: `[n_heads, d_head, n_rounds, sum(factors) / 2]`
    ///
    /// # Errors
    /// Rotations for a different number of heads, head width, rounds or buckets.
    pub fn with_rotations(mut self, rotations: Tensor<B, 4>) -> Result<Self, ConfigError> {
        let [n_heads, d_head, n_rounds, n_projections] = rotations.dims();
        let heads = &self.config.heads;
        let lsh = &self.config.lsh;
        let expected = [heads.n_heads, heads.head_width(), lsh.n_rounds];
        let projections = match &lsh.n_buckets {
            Buckets::Auto | Buckets::AutoFactored(_) => n_projections,
            fixed => fixed.factors(0, 1).iter().sum::<usize>() / 2,
        };
        if [n_heads, d_head, n_rounds] != expected || n_projections != projections {
            let [n_heads, d_head, n_rounds] = expected;
            return Err(ConfigError::new(
                "rotations",
                format!("of shape {:?}", rotations.dims()),
                format!("the layer hashes with [{n_heads}, {d_head}, {n_rounds}, {projections}]"),
                "give n_heads, d_head, n_rounds and half the sum of the bucket factors",
            ));
        }
        self.rotations = Some(Param::from_tensor(rotations).set_require_grad(false));
        Ok(self)
    }

    /// LSH attention. Unless the pass has [buckets](Pass::with_buckets), queries are hashed: in
    /// training with fresh rotations (unless they are [fixed](LshConfig::fixed_rotations)),
    /// otherwise with those of the module.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, seq_length, d_model]`
    pub fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Attended<B> {
        self.project_and_attend(x, pass)
    }

    /// Finds the keys that queries see, from the buckets of the pass or by hashing.
    ///
    /// # Shapes
    /// - queries for hashing: `[batch_size, n_heads, seq_length, d_head]`
    pub(super) fn route(
        &self,
        queries: Tensor<B, 4>,
        pass: &Pass<B>,
        dropout: Option<(f64, Key)>,
    ) -> Routing<B> {
        let [_, _, seq_length, _] = queries.dims();
        let HeadsConfig { causal, .. } = self.config.heads;
        let lsh = &self.config.lsh;
        let factors = lsh.factors_in(seq_length, pass.context());
        let n_buckets = factors.iter().product();
        let buckets = match pass.buckets() {
            Some(buckets) => buckets.clone(),
            None => self.buckets(queries, &factors, pass),
        };
        let (tile, keys, layout) = lsh.tiling(seq_length, causal);
        // One additional bucket for padding.
        let slots = B::sort_rounds(buckets.clone(), n_buckets + 1, layout, lsh.local_round);
        Routing {
            buckets,
            slots: slots.with_padding(pass.mask_pad().cloned()),
            rules: TiledAttention {
                tile,
                keys,
                duplicates: lsh.duplicates,
                causal,
                exclude_self: true,
                dropout,
            },
            n_buckets,
        }
    }

    /// Hash rotations: the fixed ones, else from the key of the pass, else from the module's seed.
    pub(crate) fn rotations_of(
        &self,
        key: Option<Key>,
        factors: &[usize],
        device: &B::Device,
    ) -> Tensor<B, 4> {
        if let Some(rotations) = &self.rotations {
            return rotations.val();
        }
        let key = match key.filter(|_| !self.config.lsh.fixed_rotations) {
            Some(key) => key.fold(purpose::ROTATIONS),
            None => Key::new(self.config.hash_seed),
        };
        let HeadsConfig { n_heads, .. } = self.config.heads;
        let d_head = self.config.heads.head_width();
        let n_rounds = self.config.lsh.n_rounds;
        rotations(key, n_heads, d_head, n_rounds, factors, device)
    }

    /// Hashes queries; padding goes to an additional last bucket, away from the tokens.
    pub(crate) fn buckets(
        &self,
        queries: Tensor<B, 4>,
        factors: &[usize],
        pass: &Pass<B>,
    ) -> Tensor<B, 4, Int> {
        let [batch_size, n_heads, seq_length, _] = queries.dims();
        let n_rounds = self.config.lsh.n_rounds;
        let rotations = self.rotations_of(pass.key(), factors, &queries.device());
        let buckets = hash(queries, rotations, factors);
        match pass.mask_pad() {
            Some(mask_pad) => {
                let mask_pad = mask_pad
                    .clone()
                    .reshape([batch_size, 1, 1, seq_length])
                    .expand([batch_size, n_heads, n_rounds, seq_length]);
                buckets.mask_fill(mask_pad, factors.iter().product::<usize>() as i64)
            }
            None => buckets,
        }
    }
}

impl<B: Backend> ProjectedAttention<B> for LshAttention<B> {
    fn heads(&self) -> &Heads<B> {
        &self.heads
    }

    fn heads_mut(&mut self) -> &mut Heads<B> {
        &mut self.heads
    }

    fn is_causal(&self) -> bool {
        self.config.heads.causal
    }

    fn reach(&self, max_length: usize) -> Reach<'_, B> {
        let lsh = &self.config.lsh;
        if lsh.is_exact_in(max_length, Some(max_length), true) {
            Reach::All
        } else {
            Reach::Hashed(self)
        }
    }

    fn lsh(&self) -> Option<&LshAttention<B>> {
        Some(self)
    }

    fn hashed_queries(&self, queries: Tensor<B, 4>, rotated: &Tensor<B, 4>) -> Tensor<B, 4> {
        match self.config.lsh.hash_rotated {
            true => rotated.clone(),
            false => queries,
        }
    }

    fn attend(
        &self,
        queries: Tensor<B, 4>,
        x: Tensor<B, 3>,
        pass: &Pass<B>,
        show: impl FnOnce(&Qkv<B>),
    ) -> Attended<B>
    where
        B: ReformerBackend,
    {
        let [_, _, seq_length, _] = queries.dims();
        let lsh = &self.config.lsh;
        let causal = self.config.heads.causal;
        let dropout = pass.dropout(self.config.heads.dropout, purpose::WEIGHTS);
        if lsh.is_exact_in(seq_length, pass.context(), causal) {
            let qkv = self.heads.queries_keys_values(queries, x);
            show(&qkv);
            let masking = Masking {
                causal,
                exclude_self: true,
                dropout,
                mask_pad: pass.mask_pad().cloned(),
            };
            let attended = B::full_attention(qkv, &masking);
            return self.heads.join(attended.output).into();
        }

        let qkv = self.heads.queries_keys_values(queries.clone(), x);
        show(&qkv);
        let routing = self.route(self.hashed_queries(queries, &qkv.q), pass, dropout);
        let attended = B::tiled_attention(qkv, &routing.slots, &routing.rules);
        Attended {
            output: self.heads.join(attended.output),
            buckets: Some(routing.into_buckets()),
        }
    }
}

impl<B: Backend> Routing<B> {
    /// The hash buckets in the type that is returned to callers.
    pub(super) fn into_buckets(self) -> Tensor<B, 4, Int> {
        compact(self.buckets, self.n_buckets + 1)
    }
}

/// Casts buckets to two bytes each if they fit and the backend supports it: reversible training
/// keeps them for every layer.
fn compact<B: Backend>(buckets: Tensor<B, 4, Int>, n_buckets: usize) -> Tensor<B, 4, Int> {
    let fit = n_buckets <= usize::from(u16::MAX) + 1;
    if fit && B::supports_dtype(&buckets.device(), DType::U16) {
        return buckets.cast(DType::U16);
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    #[test]
    fn fixed_rotations_are_those_of_evaluation() {
        let device = Default::default();
        let buckets = |fixed_rotations, pass: Pass<Flex>| {
            let lsh = LshConfig::new().with_fixed_rotations(fixed_rotations);
            let layer = LshAttentionConfig::new(HeadsConfig::new(8, 2), lsh).init(&device);
            let numbers = Tensor::<Flex, 1, Int>::arange(0..1600, &device).float();
            let queries = numbers.sin().reshape([1, 2, 200, 4]);
            layer.buckets(queries, &[8], &pass).into_data()
        };
        let in_training = |step| Pass::train(Key::new(1).fold(step));
        let evaluated = buckets(true, Pass::eval());
        assert_eq!(buckets(true, in_training(0)), evaluated);
        assert_eq!(buckets(false, Pass::eval()), evaluated);
        assert_ne!(buckets(false, in_training(0)), evaluated);
        assert_ne!(
            buckets(false, in_training(0)),
            buckets(false, in_training(1))
        );
    }
}
