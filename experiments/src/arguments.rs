//! Flags about models, which several programs share.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use reformer_core::Precision;
use reformer_core::attention::{AttentionKind, Buckets, Window};
use reformer_core::generation::{BeamConfig, SamplerConfig};
use reformer_core::model::ReformerConfig;
use reformer_core::reversible::Mode;
use reformer_train::{AdafactorConfig, OptimizerConfig};
use serde::{Deserialize, Serialize};

/// Digits after the point in `--mode exact`.
const FRACTION_BITS: u32 = 16;

/// A kind of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KindName {
    /// By hashing.
    Lsh,
    /// Among neighbouring chunks.
    Local,
    /// Exact.
    Full,
}

impl KindName {
    /// The kind of that name.
    pub fn kind(self) -> AttentionKind {
        match self {
            Self::Lsh => AttentionKind::Lsh,
            Self::Local => AttentionKind::Local,
            Self::Full => AttentionKind::Full,
        }
    }
}

/// What backward starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModeName {
    /// Activations are computed back from the output: memory does not grow with depth.
    Reversible,
    /// The same without rounding errors.
    Exact,
    /// All activations are kept: memory grows with depth.
    Plain,
    /// One residual stream, as in a Transformer: for comparison. Memory grows with depth.
    Ordinary,
}

impl ModeName {
    /// The mode of that name.
    pub fn mode(self) -> Mode {
        match self {
            Self::Reversible => Mode::Reversible,
            Self::Exact => Mode::Exact {
                fraction_bits: FRACTION_BITS,
            },
            Self::Plain => Mode::Plain,
            Self::Ordinary => Mode::Ordinary,
        }
    }
}

/// An optimizer with its usual settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OptimizerName {
    /// Adam; with the decay of weights that presets have, AdamW.
    Adam,
    /// A few numbers for each matrix, steps in shares of a weight's size.
    Adafactor,
    /// Gradient descent with momentum 0.9.
    Sgd,
}

impl OptimizerName {
    /// Its settings. Adafactor follows the schedule, as in the paper's code.
    pub fn config(self) -> OptimizerConfig {
        match self {
            Self::Adam => OptimizerConfig::Adam {
                beta_1: 0.9,
                beta_2: 0.99,
                epsilon: 1e-8,
            },
            Self::Adafactor => {
                OptimizerConfig::Adafactor(AdafactorConfig::new().with_relative_step(false))
            }
            Self::Sgd => OptimizerConfig::Sgd {
                momentum: 0.9,
                nesterov: false,
            },
        }
    }
}

/// In which type blocks compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionName {
    /// As the weights.
    F32,
    /// Half the memory inside blocks, the range of f32.
    Bf16,
    /// The same with more digits and less range: the loss is scaled.
    F16,
}

impl PrecisionName {
    /// The precision of that name.
    pub fn precision(self) -> Precision {
        match self {
            Self::F32 => Precision::Full,
            Self::Bf16 => Precision::Bf16,
            Self::F16 => Precision::F16,
        }
    }
}

/// Changes to a model.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArguments {
    /// Number of blocks, each of attention and feed-forward
    #[arg(long, value_name = "N")]
    pub layers: Option<usize>,
    /// Kinds of attention from the first block up, repeated until there are enough
    #[arg(long, value_name = "KIND,...", value_delimiter = ',')]
    pub attention: Option<Vec<KindName>>,
    /// Width of each residual stream
    #[arg(long, value_name = "N")]
    pub d_model: Option<usize>,
    /// Width inside the feed-forward layers (4 times the width of the model)
    #[arg(long, value_name = "N")]
    pub d_ff: Option<usize>,
    /// Number of attention heads; must divide the width of the model
    #[arg(long, value_name = "N")]
    pub n_heads: Option<usize>,
    /// Hash rounds of LSH attention
    #[arg(long, value_name = "N")]
    pub n_rounds: Option<usize>,
    /// Hash buckets of LSH attention, an even number (as many as the length asks for)
    #[arg(long, value_name = "N")]
    pub n_buckets: Option<usize>,
    /// Earlier positions of its own bucket that a position sees in a round
    #[arg(long, value_name = "N")]
    pub window: Option<usize>,
    /// Positions in a chunk of LSH and local attention
    #[arg(long, value_name = "N")]
    pub chunk_length: Option<usize>,
    /// Share of activations dropped in training
    #[arg(long, value_name = "SHARE", value_parser = finite)]
    pub dropout: Option<f64>,
    /// What backward starts from
    #[arg(long, value_enum)]
    pub mode: Option<ModeName>,
    /// In which type blocks compute; weights, streams and loss are f32
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionName>,
}

impl ModelArguments {
    /// Makes the changes.
    pub fn apply(&self, model: &mut ReformerConfig) {
        set(&mut model.n_layers, self.layers);
        set(&mut model.d_model, self.d_model);
        set(&mut model.n_heads, self.n_heads);
        set(&mut model.lsh.n_rounds, self.n_rounds);
        set(&mut model.lsh.chunk_length, self.chunk_length);
        set(&mut model.local.chunk_length, self.chunk_length);
        set(&mut model.lsh.n_buckets, self.n_buckets.map(Buckets::Count));
        set(&mut model.dropout, self.dropout);
        set(&mut model.mode, self.mode.map(ModeName::mode));
        let precision = self.precision.map(PrecisionName::precision);
        set(&mut model.precision, precision);
        let window = self.window.map(|len| Window::Bucket { len });
        set(&mut model.lsh.window, window);
        model.d_ff = self.d_ff.or(model.d_ff);
        if let Some(attention) = &self.attention {
            model.layers = attention.iter().map(|name| name.kind()).collect();
        }
    }
}

/// How tokens are drawn.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Drawing")]
pub struct SamplerArguments {
    /// What logits are divided by: 0 takes the most probable token, 1 draws as the model says
    #[arg(long, default_value_t = 0.8, value_parser = finite)]
    pub temperature: f64,
    /// Draw from so many of the most probable tokens only
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Draw from the most probable tokens only that have this share together
    #[arg(long, value_name = "SHARE", value_parser = finite)]
    pub top_p: Option<f64>,
    /// Draw from tokens only that have this share of the most probable one's probability
    #[arg(long, value_name = "SHARE", value_parser = finite)]
    pub min_p: Option<f64>,
    /// Make tokens less probable that there were already: above 1
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = finite)]
    pub repetition_penalty: f64,
    /// From which everything drawn follows
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

impl SamplerArguments {
    /// The sampler's configuration.
    pub fn config(&self) -> SamplerConfig {
        SamplerConfig::new()
            .with_temperature(self.temperature)
            .with_top_k(self.top_k)
            .with_top_p(self.top_p)
            .with_min_p(self.min_p)
            .with_repetition_penalty(self.repetition_penalty)
    }
}

/// How translations are searched for.
#[derive(Debug, Clone, Args)]
pub struct BeamArguments {
    /// Hypotheses of the beam search; 1 takes the most probable piece each time
    #[arg(
        long = "beam",
        alias = "beam-size",
        value_name = "N",
        default_value_t = 4
    )]
    pub size: usize,
    /// Exponent of its length penalty; 0 compares probabilities, more makes translations longer
    #[arg(
        long,
        value_name = "ALPHA",
        default_value_t = 0.6,
        value_parser = finite
    )]
    pub length_penalty: f64,
}

impl BeamArguments {
    /// The search's configuration.
    pub fn config(&self) -> BeamConfig {
        BeamConfig::new()
            .with_beam_size(self.size)
            .with_length_penalty(self.length_penalty)
    }
}

/// Sequences that a program computes at a time, at most.
pub const MOST_ROWS: usize = 1 << 10;
/// Tokens that a program reads or writes in a sequence, at most: what no memory would do for is refused.
pub const MOST_TOKENS: usize = 1 << 24;

/// Refuses none of something, or more than there can be.
///
/// # Errors
/// A number that is not from 1 to `most`, with the flag that it was given by.
pub fn check_range(flag: &str, number: usize, most: usize) -> Result<()> {
    if number == 0 {
        bail!("`{flag}` is 0, but it must be at least 1: raise it");
    }
    check_most(flag, number, most)
}

/// Refuses more of something than there can be.
///
/// # Errors
/// A larger number than `most`, with the flag that it was given by.
pub fn check_most(flag: &str, number: usize, most: usize) -> Result<()> {
    if number > most {
        bail!("`{flag}` is {number}, but it can be at most {most}: lower it");
    }
    Ok(())
}

/// Reads a number that is finite.
///
/// # Errors
/// What is no number.
pub fn finite(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    match number.is_finite() {
        true => Ok(number),
        false => Err("it must be a finite number".to_owned()),
    }
}

/// Replaces a value if there is another one.
pub fn set<T>(value: &mut T, other: Option<T>) {
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
        check_range("--batch", 1, 8).unwrap();
        check_range("--batch", 8, 8).unwrap();
        let told = |number| check_range("--batch", number, 8).unwrap_err().to_string();
        assert_eq!(
            told(0),
            "`--batch` is 0, but it must be at least 1: raise it"
        );
        assert_eq!(told(9), "`--batch` is 9, but it can be at most 8: lower it");
    }

    #[test]
    fn only_what_is_given_changes() {
        let before = ReformerConfig::new(256, 64, 2);
        let mut model = before.clone();
        ModelArguments::default().apply(&mut model);
        assert_eq!(model, before);
        let arguments = ModelArguments {
            window: Some(16),
            attention: Some(vec![KindName::Full, KindName::Lsh]),
            mode: Some(ModeName::Plain),
            precision: Some(PrecisionName::Bf16),
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
