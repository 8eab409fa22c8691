//! Sizes of models and runs to start from.

use burn::module::Initializer;
use clap::ValueEnum;
use reformer_core::attention::{AttentionKind, Buckets, LocalConfig, LshConfig, Window};
use reformer_core::feed_forward::Activation;
use reformer_core::model::{ReformerConfig, ReformerLmConfig};
use reformer_core::position::PositionConfig;
use reformer_train::{DataConfig, TrainConfig};

/// Standard deviation of the products of a normalised vector with initial weights.
const INITIAL_STD: f64 = 0.4;

/// A size of a model and of its training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// Two minutes on two CPU cores: 4 layers of width 64, windows of 256 bytes.
    Tiny,
    /// An hour on a few CPU cores, minutes on a GPU: 6 layers of width 256, windows of 2,048 bytes.
    Small,
    /// A day on a GPU: 12 layers of width 512, windows of 16,384 bytes.
    Base,
    /// The paper's size for enwik8, for a large GPU: 12 layers of width 1,024, windows of 65,536
    /// bytes. Needs --data.
    #[value(name = "enwik8-64k")]
    Enwik8,
}

impl Preset {
    /// The name that runs get by default.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Small => "small",
            Self::Base => "base",
            Self::Enwik8 => "enwik8-64k",
        }
    }

    /// The configuration of the run, on the sample.
    pub fn config(self) -> TrainConfig {
        match self {
            Self::Tiny => tiny(),
            Self::Small => small(),
            Self::Base => base(),
            Self::Enwik8 => enwik8(),
        }
    }
}

/// What all presets share. Weights start smaller than by Xavier's rule and embeddings larger, so
/// that blocks begin by adding little to what the tokens say: on the sample this needs half the
/// steps.
fn run(model: ReformerConfig) -> TrainConfig {
    let std = INITIAL_STD / (model.d_model as f64).sqrt();
    let model = model
        .with_initializer(Initializer::Normal { mean: 0.0, std })
        .with_embedding_std(1.0);
    TrainConfig::new(ReformerLmConfig::new(model), DataConfig::Sample)
        .with_max_gradient_norm(Some(1.0))
}

fn tiny() -> TrainConfig {
    use AttentionKind::{Local, Lsh};
    // A window has room for few chunks, so few buckets are enough.
    let lsh = lsh(32, 1).with_n_buckets(Buckets::Count(4));
    let model = ReformerConfig::new(256, 64, 4)
        .with_n_heads(2)
        .with_layers(vec![Local, Local, Lsh, Local])
        .with_local(LocalConfig::new().with_chunk_length(32))
        .with_lsh(lsh)
        .with_activation(Activation::Relu);
    run(model)
        .with_window_length(256)
        .with_batch_size(4)
        .with_steps(1_400)
        .with_steps_per_epoch(200)
        .with_eval_windows(Some(96))
        .with_learning_rate(1e-2)
        .with_final_share(0.05)
        .with_warmup_steps(50)
}

fn small() -> TrainConfig {
    let model = ReformerConfig::new(256, 256, 6)
        .with_n_heads(4)
        .with_lsh(lsh(64, 2))
        .with_dropout(0.1);
    run(model)
        .with_window_length(2048)
        .with_batch_size(8)
        .with_steps(3_000)
        .with_steps_per_epoch(200)
        .with_learning_rate(1.5e-3)
        .with_warmup_steps(200)
}

fn base() -> TrainConfig {
    let model = ReformerConfig::new(256, 512, 12)
        .with_n_heads(8)
        .with_lsh(lsh(64, 2))
        .with_ff_chunk_length(Some(4096))
        .with_dropout(0.1);
    run(model)
        .with_window_length(16_384)
        .with_batch_size(4)
        .with_steps(40_000)
        .with_steps_per_epoch(1_000)
        .with_learning_rate(6e-4)
        .with_warmup_steps(1_000)
}

fn enwik8() -> TrainConfig {
    let model = ReformerConfig::new(256, 1024, 12)
        .with_n_heads(8)
        .with_position(PositionConfig::Axial {
            shape: vec![128, 512],
            dims: vec![256, 768],
            std: 0.02,
        })
        .with_lsh(lsh(128, 4))
        .with_local(LocalConfig::new().with_chunk_length(128))
        .with_ff_chunk_length(Some(4096))
        .with_dropout(0.2);
    run(model)
        .with_window_length(65_536)
        .with_batch_size(2)
        .with_steps(100_000)
        .with_steps_per_epoch(1_000)
        .with_eval_windows(Some(16))
        .with_learning_rate(3e-4)
        .with_warmup_steps(4_000)
}

/// LSH attention whose chunks and windows have one length.
fn lsh(length: usize, n_rounds: usize) -> LshConfig {
    LshConfig::new()
        .with_chunk_length(length)
        .with_window(Window::Bucket { len: length })
        .with_n_rounds(n_rounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longest sequence for which LSH attention is computed exactly, if there is any.
    fn exact_up_to(config: &ReformerConfig) -> Option<usize> {
        let has_lsh = config.kinds().any(|kind| kind == AttentionKind::Lsh);
        has_lsh.then_some(match config.lsh.window {
            Window::Bucket { len } => 2 * len,
            Window::Chunk { before, after, .. } => config.lsh.chunk_length * (before + 1 + after),
        })
    }

    #[test]
    fn presets_are_valid_and_hash() {
        for preset in Preset::value_variants() {
            let config = preset.config();
            config.validate().unwrap();
            let exact = exact_up_to(&config.model.reformer).unwrap();
            assert!(config.window_length > exact, "{preset:?} would not hash");
        }
    }

    #[test]
    fn names_are_those_of_the_flag() {
        for preset in Preset::value_variants() {
            let flag = preset.to_possible_value().unwrap();
            assert_eq!(flag.get_name(), preset.name());
        }
    }
}
