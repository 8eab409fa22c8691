//! Queries, keys and values of a head of a trained model.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use reformer_core::Pass;
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::Reformer;

/// Queries, keys and values of one head and one sequence, on the host: `[seq_length, d_head]` each.
#[derive(Debug, Clone)]
pub(crate) struct HeadVectors {
    /// Number of its layer.
    pub(crate) layer: usize,
    /// Number of the head in it.
    pub(crate) number: usize,
    /// Width of a row.
    pub(crate) d: usize,
    /// Queries after the projection.
    pub(crate) projected: Vec<f32>,
    /// Queries as they enter the logits: rotated by position.
    pub(crate) queries: Vec<f32>,
    /// Keys as they enter the logits, with the scale of logits.
    pub(crate) keys: Vec<f32>,
    /// Values.
    pub(crate) values: Vec<f32>,
}

impl HeadVectors {
    /// Length of the sequence.
    pub(crate) fn seq_length(&self) -> usize {
        self.queries.len() / self.d
    }

    /// The row of a position.
    pub(crate) fn row<'a>(&self, rows: &'a [f32], position: usize) -> &'a [f32] {
        &rows[position * self.d..][..self.d]
    }

    /// Softmax of a query over all earlier keys. Empty for the first position, which has none.
    pub(crate) fn weights(&self, query: usize) -> Vec<f64> {
        let q = self.row(&self.queries, query);
        let dot = |k: &[f32]| -> f64 { q.iter().zip(k).map(|(q, k)| f64::from(q * k)).sum() };
        let logits: Vec<f64> = (0..query)
            .map(|key| dot(self.row(&self.keys, key)))
            .collect();
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut weights: Vec<f64> = logits.iter().map(|logit| (logit - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
        weights
    }
}

/// The heads of all layers but local ones, for the first sequence of a batch.
///
/// # Shapes
/// - tokens: `[1, seq_length]`
pub(crate) fn heads<B: ReformerBackend>(
    model: &Reformer<B>,
    tokens: Tensor<B, 2, Int>,
) -> Vec<HeadVectors> {
    let mut heads = Vec::new();
    model.visit_attention(tokens, &Pass::eval(), |layer, attention, x| {
        if attention.is_local() {
            return;
        }
        let of_layer = attention.heads();
        let projected = of_layer.queries(x.clone());
        let qkv = of_layer.queries_keys_values(projected.clone(), x);
        let [_, _, seq_length, d] = qkv.q.dims();
        let keys = rows(B::key_rows(&qkv));
        let [projected, queries, values] = [projected, qkv.q, qkv.v].map(rows);
        let part = |rows: &[f32], number: usize| {
            rows[number * seq_length * d..][..seq_length * d].to_vec()
        };
        heads.extend((0..of_layer.n_heads).map(|number| HeadVectors {
            layer,
            number,
            d,
            projected: part(&projected, number),
            queries: part(&queries, number),
            keys: part(&keys, number),
            values: part(&values, number),
        }));
    });
    heads
}

fn rows<B: Backend>(tensor: Tensor<B, 4>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}
