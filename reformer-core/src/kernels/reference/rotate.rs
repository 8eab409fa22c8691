//! Rotary positions.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use crate::kernels::Turn;
use crate::position::sin_cos;
use crate::precision::widen;

/// See [`ReformerBackend::rotate`](crate::kernels::ReformerBackend::rotate).
pub fn rotate<B: Backend>(heads: Tensor<B, 4>, base: f64, turn: Turn) -> Tensor<B, 4> {
    let [_, _, seq_length, d_head] = heads.dims();
    let (device, dtype) = (heads.device(), heads.dtype());
    let heads = widen(heads);
    let [sin, cos] = sin_cos(seq_length, d_head / 2, base).map(|values| {
        let data = TensorData::new(values, [1, 1, seq_length, d_head / 2]);
        Tensor::<B, 4>::from_data(data, &device)
    });
    let sin = sin * turn.sign();
    let first = heads.clone().slice_dim(3, 0..d_head / 2);
    let second = heads.slice_dim(3, d_head / 2..d_head);
    let turned = vec![
        first.clone() * cos.clone() - second.clone() * sin.clone(),
        second * cos + first * sin,
    ];
    Tensor::cat(turned, 3).cast(dtype)
}
