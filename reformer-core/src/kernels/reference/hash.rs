//! Angular hashing.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

/// See [`ReformerBackend::hash`](crate::kernels::ReformerBackend::hash).
pub fn hash<B: Backend>(
    vectors: Tensor<B, 4>,
    rotations: Tensor<B, 4>,
    factors: &[usize],
) -> Tensor<B, 4, Int> {
    let [batch_size, n_heads, seq_length, d_head] = vectors.dims();
    let [_, _, n_rounds, n_projections] = rotations.dims();
    let vectors = vectors.detach().cast(rotations.dtype());
    let rounds = (0..n_rounds).map(|round| {
        let rotation = rotations.clone().slice_dim(2, round..round + 1).reshape([
            1,
            n_heads,
            d_head,
            n_projections,
        ]);
        let rotated = vectors.clone().matmul(rotation);
        let mut bucket: Option<Tensor<B, 4, Int>> = None;
        let (mut start, mut weight) = (0, 1);
        for factor in factors {
            let part = rotated.clone().slice_dim(3, start..start + factor / 2);
            let digit = Tensor::cat(vec![part.clone(), -part], 3).argmax(3) * weight;
            bucket = Some(match bucket {
                Some(bucket) => bucket + digit,
                None => digit,
            });
            start += factor / 2;
            weight *= *factor as i64;
        }
        bucket
            .expect("validated: a factor at least")
            .reshape([batch_size, n_heads, 1, seq_length])
    });
    Tensor::cat(rounds.collect(), 2)
}
