//! Names and layouts of a Reformer's tensors in Hugging Face and here.

use burn::tensor::{DType, TensorData};

use crate::model::ReformerConfig;
use crate::position::PositionConfig;

/// Block size of a transposition, in rows and columns.
const BLOCK: usize = 32;

/// Layout of a tensor in Hugging Face.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// The same as ours.
    Same,
    /// `[d_output, d_input]`, as in PyTorch's linear layers.
    Transposed,
    /// With an axis of length 1 for each of the other position axes.
    Axial {
        /// Index of the axis.
        axis: usize,
        /// Number of axes.
        n_axes: usize,
    },
}

impl Layout {
    /// Shape in Hugging Face of a tensor with our shape `ours`.
    pub(super) fn shape_of(self, ours: &[usize]) -> Vec<usize> {
        match self {
            Self::Same => ours.to_vec(),
            Self::Transposed => ours.iter().rev().copied().collect(),
            Self::Axial { axis, n_axes } => {
                let mut shape = vec![1; n_axes];
                shape[axis] = ours[0];
                shape.push(ours[1]);
                shape
            }
        }
    }

    /// Converts between the layouts in either direction, to `f32`; `shape` is that of the result.
    pub(super) fn convert(self, data: TensorData, shape: Vec<usize>) -> TensorData {
        let data = data.convert_dtype(DType::F32);
        if self != Self::Transposed {
            return TensorData::from_bytes(data.bytes, shape, DType::F32);
        }
        let [rows, columns] = [shape[0], shape[1]];
        let bytes = data.as_bytes().as_chunks::<4>().0;
        let mut transposed = vec![0.0; rows * columns];
        // Blocks of input and output stay in the cache.
        for first_row in (0..rows).step_by(BLOCK) {
            for first in (0..columns).step_by(BLOCK) {
                for row in first_row..rows.min(first_row + BLOCK) {
                    for column in first..columns.min(first + BLOCK) {
                        let number = f32::from_ne_bytes(bytes[column * rows + row]);
                        transposed[row * columns + column] = number;
                    }
                }
            }
        }
        TensorData::new(transposed, shape)
    }
}

/// A tensor of a model.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Its name in Hugging Face's state dict.
    pub(super) theirs: String,
    /// Its path in our module, without names of enum variants.
    pub(super) ours: String,
    /// Its layout in Hugging Face.
    pub(super) layout: Layout,
}

/// Every tensor of a stack.
///
/// | Hugging Face | here |
/// |---|---|
/// | `embeddings.word_embeddings.weight` | `embedding.weight` |
/// | `embeddings.position_embeddings.weights.A` | `position.tables.A` |
/// | `embeddings.position_embeddings.embedding.weight` | `position.tables.0` |
/// | `encoder.layers.N.attention.layer_norm.*` | `blocks.N.attention_norm.*` |
/// | `encoder.layers.N.attention.self_attention.query_key.weight` (or `query`) | `blocks.N.attention.heads.query.weight` |
/// | `encoder.layers.N.attention.self_attention.{key,value}.weight` | `blocks.N.attention.heads.{key,value}.weight` |
/// | `encoder.layers.N.attention.output.dense.weight` | `blocks.N.attention.heads.output.weight` |
/// | `encoder.layers.N.feed_forward.layer_norm.*` | `blocks.N.feed_forward_norm.*` |
/// | `encoder.layers.N.feed_forward.dense.dense.*` | `blocks.N.feed_forward.inner.*` |
/// | `encoder.layers.N.feed_forward.output.dense.*` | `blocks.N.feed_forward.outer.*` |
/// | `encoder.layer_norm.*` | `norm.*` |
///
/// All of them below `reformer.` on both sides; [`linear`] names the other tensors.
pub(super) fn stack(config: &ReformerConfig) -> Vec<Entry> {
    let mut table = Table::default();
    table.stack(
        "embeddings.word_embeddings.weight",
        "embedding.weight",
        Layout::Same,
    );
    match &config.position {
        PositionConfig::Axial { shape, .. } => {
            for axis in 0..shape.len() {
                let n_axes = shape.len();
                table.stack(
                    &format!("embeddings.position_embeddings.weights.{axis}"),
                    &format!("position.tables.{axis}"),
                    Layout::Axial { axis, n_axes },
                );
            }
        }
        _ => table.stack(
            "embeddings.position_embeddings.embedding.weight",
            "position.tables.0",
            Layout::Same,
        ),
    }
    for (number, kind) in config.kinds().enumerate() {
        table.block(number, config.shares_qk(kind));
    }
    table.norm("encoder.layer_norm", "norm");
    table.entries
}

/// The tensors of a linear layer.
///
/// | Hugging Face | here | of |
/// |---|---|---|
/// | `lm_head.decoder` | `output` | `ReformerLm` |
/// | `classifier.dense`, `classifier.out_proj` | `head.dense`, `head.output` | `ReformerClassifier` |
/// | `qa_outputs` | `output` | `ReformerQuestionAnswering` |
pub(super) fn linear(theirs: &str, ours: &str, has_bias: bool) -> Vec<Entry> {
    let mut table = Table::default();
    table.push(
        &format!("{theirs}.weight"),
        &format!("{ours}.weight"),
        Layout::Transposed,
    );
    if has_bias {
        table.push(
            &format!("{theirs}.bias"),
            &format!("{ours}.bias"),
            Layout::Same,
        );
    }
    table.entries
}

#[derive(Default)]
struct Table {
    entries: Vec<Entry>,
}

impl Table {
    fn push(&mut self, theirs: &str, ours: &str, layout: Layout) {
        self.entries.push(Entry {
            theirs: theirs.into(),
            ours: ours.into(),
            layout,
        });
    }

    fn stack(&mut self, theirs: &str, ours: &str, layout: Layout) {
        self.push(
            &format!("reformer.{theirs}"),
            &format!("reformer.{ours}"),
            layout,
        );
    }

    fn norm(&mut self, theirs: &str, ours: &str) {
        for (their_part, our_part) in [("weight", "gamma"), ("bias", "beta")] {
            self.stack(
                &format!("{theirs}.{their_part}"),
                &format!("{ours}.{our_part}"),
                Layout::Same,
            );
        }
    }

    fn block(&mut self, number: usize, shares_qk: bool) {
        let theirs = format!("encoder.layers.{number}");
        let ours = format!("blocks.{number}");
        self.norm(
            &format!("{theirs}.attention.layer_norm"),
            &format!("{ours}.attention_norm"),
        );
        let projections: &[(&str, &str)] = if shares_qk {
            &[("query_key", "query"), ("value", "value")]
        } else {
            &[("query", "query"), ("key", "key"), ("value", "value")]
        };
        for (their_part, our_part) in projections {
            self.stack(
                &format!("{theirs}.attention.self_attention.{their_part}.weight"),
                &format!("{ours}.attention.heads.{our_part}.weight"),
                Layout::Transposed,
            );
        }
        self.stack(
            &format!("{theirs}.attention.output.dense.weight"),
            &format!("{ours}.attention.heads.output.weight"),
            Layout::Transposed,
        );
        self.norm(
            &format!("{theirs}.feed_forward.layer_norm"),
            &format!("{ours}.feed_forward_norm"),
        );
        for (their_part, our_part) in [("dense.dense", "inner"), ("output.dense", "outer")] {
            let theirs = format!("{theirs}.feed_forward.{their_part}");
            let ours = format!("{ours}.feed_forward.{our_part}");
            self.stack(
                &format!("{theirs}.weight"),
                &format!("{ours}.weight"),
                Layout::Transposed,
            );
            self.stack(
                &format!("{theirs}.bias"),
                &format!("{ours}.bias"),
                Layout::Same,
            );
        }
    }
}
