//! Rotary positions.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use crate::kernels::Rotation;
use crate::position::sin_cos;
use crate::precision::widen;

/// See [`ReformerBackend::rotate`](crate::kernels::ReformerBackend::rotate).
pub fn rotate<B: Backend>(heads: Tensor<B, 4>, base: f64, rotation: Rotation) -> Tensor<B, 4> {
    let [_, _, seq_length, d_head] = heads.dims();
    let [sin, cos] = sin_cos(0..seq_length, d_head / 2, base);
    turned(heads, [1, 1, seq_length, d_head / 2], [sin, cos], rotation)
}

/// See [`ReformerBackend::rotate_at`](crate::kernels::ReformerBackend::rotate_at).
pub fn rotate_at<B: Backend>(heads: Tensor<B, 4>, positions: &[usize], base: f64) -> Tensor<B, 4> {
    let [batch_size, _, _, d_head] = heads.dims();
    let waves = sin_cos(positions.iter().copied(), d_head / 2, base);
    let shape = [batch_size, 1, 1, d_head / 2];
    turned(heads, shape, waves, Rotation::Apply)
}

/// Rotates pairs of features by angles whose sines and cosines are broadcast.
fn turned<B: Backend>(
    heads: Tensor<B, 4>,
    shape: [usize; 4],
    waves: [Vec<f32>; 2],
    rotation: Rotation,
) -> Tensor<B, 4> {
    let (device, dtype) = (heads.device(), heads.dtype());
    let heads = widen(heads);
    let d_head = heads.dims()[3];
    let [sin, cos] =
        waves.map(|values| Tensor::<B, 4>::from_data(TensorData::new(values, shape), &device));
    let sin = sin * rotation.sign();
    let first = heads.clone().slice_dim(3, 0..d_head / 2);
    let second = heads.slice_dim(3, d_head / 2..d_head);
    let turned = vec![
        first.clone() * cos.clone() - second.clone() * sin.clone(),
        second * cos + first * sin,
    ];
    Tensor::cat(turned, 3).cast(dtype)
}
