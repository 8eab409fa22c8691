//! Settings of a step, and the models they ask for.

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use reformer_core::Precision;
use reformer_core::attention::{AttentionKind, ExactUpTo, LocalConfig, LshConfig, Window};
use reformer_core::model::{ReformerConfig, ReformerLmConfig};
use reformer_core::reversible::Mode;
use serde::{Deserialize, Serialize};

use crate::cli::arguments::{MOST_TOKENS, check_most, check_range};
use crate::cli::device::DeviceName;
use crate::cli::named::{Named, by_name, by_names, named};
use crate::measure::burn_transformer::TransformerLmConfig;

/// Byte vocabulary.
pub(super) const VOCAB_SIZE: usize = 256;

/// Settings of a training step. In JSON they are named as the flags; published measurements have older names, which
/// are read as well.
#[derive(Debug, Clone, Parser, Serialize, Deserialize)]
pub(crate) struct StepArguments {
    /// Bytes in a sequence
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub(crate) length: usize,
    /// Sequences in a step
    #[arg(long, alias = "batch", value_name = "N", default_value_t = 1)]
    #[serde(alias = "batch")]
    pub(crate) batch_size: usize,
    /// Number of blocks, each of attention and feed-forward
    #[arg(long, alias = "depth", value_name = "N", default_value_t = 6)]
    #[serde(alias = "depth")]
    pub(crate) layers: usize,
    /// Width of each residual stream
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) d_model: usize,
    /// Number of attention heads
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) n_heads: usize,
    /// Width of a head
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) d_head: usize,
    /// Width inside the feed-forward layers
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(crate) d_ff: usize,
    /// Hash rounds of LSH attention
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) n_rounds: usize,
    /// Positions in a chunk of LSH and local attention
    #[arg(long, alias = "chunk", value_name = "N", default_value_t = 64)]
    #[serde(alias = "chunk")]
    pub(crate) chunk_length: usize,
    /// Kinds of attention from the first block up, repeated for all blocks
    #[arg(
        long,
        value_name = "KIND,...",
        value_delimiter = ',',
        value_parser = named::<StepAttention>(),
        default_value = "lsh"
    )]
    #[serde(with = "by_names")]
    pub(crate) attention: Vec<StepAttention>,
    /// Keys that a query of LSH attention sees in a round
    #[arg(
        long,
        alias = "window",
        value_name = "KIND",
        value_enum,
        default_value = "chunk"
    )]
    #[serde(alias = "window")]
    pub(crate) window_kind: WindowKind,
    /// Add a local round to LSH attention, in which a position sees its neighbours
    #[arg(long)]
    #[serde(default)]
    pub(crate) local_round: bool,
    /// Use hashing even where the sequence is short enough for exact attention
    #[arg(long, conflicts_with = "exact_where_cheaper")]
    pub(crate) always_hash: bool,
    /// Use exact attention wherever it computes fewer logits than hashing
    #[arg(long)]
    pub(crate) exact_where_cheaper: bool,
    /// Number format of computations in blocks
    #[arg(long, value_parser = named::<Precision>(), default_value = "f32")]
    #[serde(with = "by_name", default = "full")]
    pub(crate) precision: Precision,
    /// How the backward pass obtains activations
    #[arg(long, value_parser = named::<Mode>(), default_value = "reversible")]
    #[serde(with = "by_name")]
    pub(crate) mode: Mode,
    /// Positions in a chunk of the feed-forward layers and of the loss
    #[arg(long, alias = "ff-chunk", value_name = "N", default_value_t = 1024)]
    #[serde(alias = "ff_chunk")]
    pub(crate) ff_chunk_length: usize,
    /// Timed steps; their median is reported
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) steps: usize,
    /// Threads of the CPU backends [default: one for each core]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Backend to compute on
    #[arg(long, value_enum, default_value = "flex")]
    pub(crate) device: DeviceName,
    /// Skip the warm-up and the rate of a large product: for steps that take minutes or most
    /// of the memory
    #[arg(long)]
    #[serde(default)]
    pub(crate) bare: bool,
}

impl StepArguments {
    /// Whether the model is Burn's own Transformer.
    pub(crate) fn is_transformer(&self) -> bool {
        self.attention.contains(&StepAttention::Transformer)
    }
}

/// The precision of measurements that were made before there was another.
fn full() -> Precision {
    Precision::Full
}

/// Attention of the model whose step is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepAttention {
    /// That of a Reformer.
    Reformer(AttentionKind),
    /// Burn's own Transformer, which attends exactly in all layers.
    Transformer,
}

impl Named for StepAttention {
    fn all() -> Vec<(&'static str, &'static str, Self)> {
        let own = (
            "transformer",
            "Burn's own Transformer, by plain autodiff",
            Self::Transformer,
        );
        let kinds = AttentionKind::all().into_iter();
        let kinds = kinds.map(|(name, about, kind)| (name, about, Self::Reformer(kind)));
        kinds.chain([own]).collect()
    }
}

/// Keys that a query of LSH attention sees in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WindowKind {
    /// Its own chunk of the sorted sequence and the one before, as in the peers.
    Chunk,
    /// The last positions of its own bucket, as many as a chunk has.
    Bucket,
}

/// The Reformer of the requested size.
pub(super) fn config(arguments: &StepArguments) -> Result<ReformerLmConfig> {
    let window = match arguments.window_kind {
        WindowKind::Chunk => Window::Chunk {
            before: 1,
            after: 0,
            within_bucket: false,
        },
        WindowKind::Bucket => Window::Bucket {
            len: arguments.chunk_length,
        },
    };
    let mut lsh = LshConfig::new()
        .with_n_rounds(arguments.n_rounds)
        .with_local_round(arguments.local_round)
        .with_chunk_length(arguments.chunk_length)
        .with_window(window);
    if arguments.always_hash {
        lsh.exact_up_to = ExactUpTo::Never;
    }
    if arguments.exact_where_cheaper {
        lsh.exact_up_to = ExactUpTo::Cheaper;
    }
    if arguments.is_transformer() && arguments.attention.len() > 1 {
        bail!("Burn's Transformer has one kind of attention: give `--attention transformer` alone");
    }
    let mode = match arguments.is_transformer() {
        true => Mode::Plain,
        false => arguments.mode,
    };
    let kinds = arguments.attention.iter().map(|attention| match attention {
        StepAttention::Reformer(kind) => *kind,
        StepAttention::Transformer => AttentionKind::Full,
    });
    let model = ReformerConfig::new(VOCAB_SIZE, arguments.d_model, arguments.layers)
        .with_n_heads(arguments.n_heads)
        .with_d_head(Some(arguments.d_head))
        .with_d_ff(Some(arguments.d_ff))
        .with_layers(kinds.collect())
        .with_lsh(lsh)
        .with_local(LocalConfig::new().with_chunk_length(arguments.chunk_length))
        .with_mode(mode)
        .with_precision(arguments.precision)
        .with_ff_chunk_length(Some(arguments.ff_chunk_length));
    let config = ReformerLmConfig::new(model).with_loss_chunk_length(arguments.ff_chunk_length);
    config.validate()?;
    check_range("--length", arguments.length, MOST_TOKENS)?;
    check_range("--batch-size", arguments.batch_size, MOST_TOKENS)?;
    let n_tokens = arguments.length.saturating_mul(arguments.batch_size);
    check_most("--length times --batch-size", n_tokens, MOST_TOKENS)?;
    check_range("--steps", arguments.steps, MOST_TOKENS)?;
    Ok(config)
}

/// Burn's Transformer of the requested size.
pub(super) fn transformer(arguments: &StepArguments) -> Result<TransformerLmConfig> {
    let StepArguments {
        d_model,
        d_ff,
        n_heads,
        d_head,
        layers,
        ..
    } = *arguments;
    if n_heads * d_head != d_model {
        bail!(
            "Burn's Transformer needs n_heads * d_head = d_model ({n_heads} * {d_head} is not {d_model}): change \
             `--d-head`"
        );
    }
    Ok(TransformerLmConfig::new(
        VOCAB_SIZE, d_model, d_ff, n_heads, layers,
    ))
}
