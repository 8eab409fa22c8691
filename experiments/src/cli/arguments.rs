//! Flags about models, which several programs share.

use anyhow::{Result, bail};
use clap::Args;
use reformer_core::attention::{AttentionKind, Buckets, Window};
use reformer_core::generation::{BeamConfig, SamplerConfig};
use reformer_core::model::ReformerConfig;
use reformer_core::reversible::Mode;
use reformer_core::{ConfigError, Precision};
use reformer_train::OptimizerConfig;

use super::named::{Named, named};

impl Named for AttentionKind {
    fn all() -> Vec<(&'static str, &'static str, Self)> {
        let all = Self::ALL.iter();
        all.map(|kind| (kind.name(), kind.description(), *kind))
            .collect()
    }
}

impl Named for Mode {
    fn all() -> Vec<(&'static str, &'static str, Self)> {
        let exact = Self::Exact { fraction_bits: 16 };
        vec![
            (
                "reversible",
                "Recomputed from the output: memory does not grow with depth",
                Self::Reversible,
            ),
            ("exact", "The same without rounding errors", exact),
            (
                "plain",
                "All activations are stored: memory grows with depth",
                Self::Plain,
            ),
            (
                "ordinary",
                "One residual stream, as in a Transformer, for comparison. Memory grows with depth",
                Self::Ordinary,
            ),
        ]
    }
}

impl Named for Precision {
    fn all() -> Vec<(&'static str, &'static str, Self)> {
        vec![
            ("f32", "The format of the weights", Self::Full),
            (
                "bf16",
                "bfloat16: half the memory inside blocks, the range of f32",
                Self::Bf16,
            ),
            (
                "f16",
                "float16: as small, with more digits and less range; the loss is scaled",
                Self::F16,
            ),
        ]
    }
}

/// Optimizers with their usual settings.
impl Named for OptimizerConfig {
    fn all() -> Vec<(&'static str, &'static str, Self)> {
        let all = Self::NAMES.iter();
        let all = all.map(|(name, about)| {
            let config = Self::by_name(name).expect("it is one of the names");
            (*name, *about, config)
        });
        all.collect()
    }
}

/// Flags that change a model.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArguments {
    /// Number of blocks, each of attention and feed-forward
    #[arg(long, value_name = "N")]
    pub(crate) layers: Option<usize>,
    /// Kinds of attention from the first block up, repeated for all blocks
    #[arg(long, value_name = "KIND,...", value_delimiter = ',', value_parser = named::<AttentionKind>())]
    pub(crate) attention: Option<Vec<AttentionKind>>,
    /// Width of each residual stream
    #[arg(long, value_name = "N")]
    pub(crate) d_model: Option<usize>,
    /// Width inside the feed-forward layers (4 times the width of the model)
    #[arg(long, value_name = "N")]
    pub(crate) d_ff: Option<usize>,
    /// Number of attention heads; must divide the width of the model
    #[arg(long, value_name = "N")]
    pub(crate) n_heads: Option<usize>,
    /// Hash rounds of LSH attention
    #[arg(long, value_name = "N")]
    pub(crate) n_rounds: Option<usize>,
    /// Hash buckets of LSH attention, an even number [default: chosen from the length]
    #[arg(long, value_name = "N")]
    pub(crate) n_buckets: Option<usize>,
    /// Keys per hash round: the last N positions of the query's bucket
    #[arg(long, value_name = "N")]
    pub(crate) window: Option<usize>,
    /// Positions in a chunk of LSH and local attention
    #[arg(long, value_name = "N")]
    pub(crate) chunk_length: Option<usize>,
    /// Share of activations dropped in training
    #[arg(long, value_name = "SHARE", value_parser = finite)]
    pub(crate) dropout: Option<f64>,
    /// How the backward pass obtains activations
    #[arg(long, value_parser = named::<Mode>())]
    pub(crate) mode: Option<Mode>,
    /// Number format of computations in blocks; weights, streams and loss are f32
    #[arg(long, value_parser = named::<Precision>())]
    pub(crate) precision: Option<Precision>,
}

impl ModelArguments {
    pub(crate) fn apply(&self, model: &mut ReformerConfig) {
        set(&mut model.n_layers, self.layers);
        set(&mut model.d_model, self.d_model);
        set(&mut model.n_heads, self.n_heads);
        set(&mut model.lsh.n_rounds, self.n_rounds);
        set(&mut model.lsh.chunk_length, self.chunk_length);
        set(&mut model.local.chunk_length, self.chunk_length);
        set(&mut model.lsh.n_buckets, self.n_buckets.map(Buckets::Count));
        set(&mut model.dropout, self.dropout);
        set(&mut model.mode, self.mode);
        set(&mut model.precision, self.precision);
        let window = self.window.map(|len| Window::Bucket { len });
        set(&mut model.lsh.window, window);
        model.d_ff = self.d_ff.or(model.d_ff);
        if let Some(attention) = &self.attention {
            model.layers = attention.clone();
        }
    }
}

/// Flags of sampling.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplerArguments {
    /// Divides the logits: 0 takes the most probable token, 1 keeps the model's probabilities
    #[arg(long, default_value_t = 0.8, value_parser = finite)]
    pub(crate) temperature: f64,
    /// Sample from this many of the most probable tokens
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<usize>,
    /// Sample from the most probable tokens whose probabilities sum to this
    #[arg(long, value_name = "SHARE", value_parser = finite)]
    pub(crate) top_p: Option<f64>,
    /// Sample from tokens with at least this share of the largest probability
    #[arg(long, value_name = "SHARE", value_parser = finite)]
    pub(crate) min_p: Option<f64>,
    /// Penalty for tokens that already occurred: above 1 makes them less probable
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = finite)]
    pub(crate) repetition_penalty: f64,
    /// Seed of all random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
}

impl SamplerArguments {
    /// The sampler.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub(crate) fn config(&self) -> Result<SamplerConfig> {
        let config = SamplerConfig::new()
            .with_temperature(self.temperature)
            .with_top_k(self.top_k)
            .with_top_p(self.top_p)
            .with_min_p(self.min_p)
            .with_repetition_penalty(self.repetition_penalty);
        config.validate().map_err(by_flag)?;
        Ok(config)
    }
}

/// Flags of the beam search.
#[derive(Debug, Clone, Args)]
pub(crate) struct BeamArguments {
    /// Hypotheses of the beam search; 1 is greedy search
    #[arg(
        long = "beam-size",
        alias = "beam",
        value_name = "N",
        default_value_t = 4
    )]
    pub(crate) size: usize,
    /// Exponent of its length penalty; 0 compares plain probabilities, more makes translations longer
    #[arg(
        long,
        value_name = "ALPHA",
        default_value_t = 0.6,
        value_parser = finite
    )]
    pub(crate) length_penalty: f64,
}

impl BeamArguments {
    /// The search.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub(crate) fn config(&self) -> Result<BeamConfig> {
        beam(self.size, self.length_penalty)
    }
}

/// A beam search with the values of its flags.
///
/// # Errors
/// The first one that cannot work.
pub(crate) fn beam(size: usize, length_penalty: f64) -> Result<BeamConfig> {
    check_range("--beam-size", size, MOST_ROWS)?;
    let config = BeamConfig::new()
        .with_beam_size(size)
        .with_length_penalty(length_penalty);
    config.validate().map_err(by_flag)?;
    Ok(config)
}

/// The error of a setting whose flag has the same name, with the name of the flag.
fn by_flag(error: ConfigError) -> ConfigError {
    let field = format!("--{}", error.field.replace('_', "-"));
    ConfigError { field, ..error }
}

/// Largest number of sequences that a program computes at a time.
pub(crate) const MOST_ROWS: usize = 1 << 10;
/// Largest number of tokens that a program reads or writes in a sequence; more would fit in no memory.
pub(crate) const MOST_TOKENS: usize = 1 << 24;

/// Refuses zero, or a number above a limit.
pub(crate) fn check_range(flag: &str, number: usize, most: usize) -> Result<()> {
    if number == 0 {
        bail!("`{flag}` is 0, but it must be at least 1: raise it");
    }
    check_most(flag, number, most)
}

/// Refuses a number above a limit.
pub(crate) fn check_most(flag: &str, number: usize, most: usize) -> Result<()> {
    if number > most {
        bail!("`{flag}` is {number}, but it can be at most {most}: lower it");
    }
    Ok(())
}

/// Parses a finite number.
pub(crate) fn finite(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "it is not a number".to_owned())?;
    match number.is_finite() {
        true => Ok(number),
        false => Err("it must be a finite number".to_owned()),
    }
}

/// Replaces a value if a new one is given.
pub(crate) fn set<T>(value: &mut T, other: Option<T>) {
    if let Some(other) = other {
        *value = other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_cannot_be_are_named() {
        assert_eq!(finite("-0.5"), Ok(-0.5));
        assert!(finite("nan").is_err() && finite("1e999").is_err() && finite("x").is_err());
        check_range("--tokens", 1, 8).unwrap();
        check_range("--tokens", 8, 8).unwrap();
        let message = |number| check_range("--tokens", number, 8).unwrap_err().to_string();
        assert_eq!(
            message(0),
            "`--tokens` is 0, but it must be at least 1: raise it"
        );
        assert_eq!(
            message(9),
            "`--tokens` is 9, but it can be at most 8: lower it"
        );
    }

    #[test]
    fn only_what_is_given_changes() {
        let before = ReformerConfig::new(256, 64, 2);
        let mut model = before.clone();
        ModelArguments::default().apply(&mut model);
        assert_eq!(model, before);
        let arguments = ModelArguments {
            window: Some(16),
            attention: Some(vec![AttentionKind::Full, AttentionKind::Lsh]),
            mode: Some(Mode::Plain),
            precision: Some(Precision::Bf16),
            ..ModelArguments::default()
        };
        arguments.apply(&mut model);
        assert_eq!(model.lsh.window, Window::Bucket { len: 16 });
        assert_eq!(model.layers, [AttentionKind::Full, AttentionKind::Lsh]);
        assert_eq!(model.mode, Mode::Plain);
        assert_eq!(model.precision, Precision::Bf16);
        assert_eq!(model.d_ff, None);
    }
}
