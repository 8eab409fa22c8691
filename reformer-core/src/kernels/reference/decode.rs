//! Decoding kernels: attention of each sequence's newest position, and writes to the cache.

use burn::tensor::activation::softmax;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

use super::{FORBIDDEN, SELF};
use crate::kernels::VisibleKeys;
use crate::precision::widen;

/// See [`ReformerBackend::write_rows`](crate::kernels::ReformerBackend::write_rows).
pub fn write_rows<B: Backend>(
    mut cache: Tensor<B, 4>,
    rows: &[usize],
    values: Tensor<B, 4>,
) -> Tensor<B, 4> {
    let [_, n_heads, _, d] = cache.dims();
    for (batch, &row) in rows.iter().enumerate() {
        let place = [batch..batch + 1, 0..n_heads, row..row + 1, 0..d];
        let value = values.clone().slice_dim(0, batch..batch + 1);
        cache = cache.slice_assign(place, value);
    }
    cache
}

/// See [`ReformerBackend::decode_attention`](crate::kernels::ReformerBackend::decode_attention).
pub fn decode_attention<B: Backend>(
    q: Tensor<B, 4>,
    [k, v]: [Tensor<B, 4>; 2],
    visible: &[VisibleKeys],
    exclude_self: bool,
) -> Tensor<B, 4> {
    let [batch_size, n_heads, _, d] = q.dims();
    let [_, _, n_rows, d_v] = v.dims();
    let (device, n, dtype) = (q.device(), batch_size * n_heads, q.dtype());
    let q = widen(q);
    let width = visible
        .iter()
        .map(|visible| visible.keys.len())
        .max()
        .unwrap_or(0);

    let (mut rows, mut bias, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for head in 0..n {
        let visible = &visible[head * visible.len() / n];
        let keys = || visible.keys.iter();
        rows.extend(keys().map(|&key| (head * n_rows) as i32 + key as i32));
        own.extend(keys().map(|&key| i32::from(exclude_self && key == visible.own)));
        let count = |at: usize| visible.counts.get(at).copied().unwrap_or(1.0);
        bias.extend((0..visible.keys.len()).map(|at| -count(at).ln()));
        // Pads to the common width with arbitrary rows, which are masked.
        let end = (head + 1) * width;
        rows.resize(end, 0);
        own.resize(end, 0);
        bias.resize(end, FORBIDDEN);
    }
    let integers = |values: Vec<i32>| Tensor::<B, 1, Int>::from_ints(values.as_slice(), &device);
    let rows = integers(rows);
    let gather = |cache: Tensor<B, 4>, d: usize| {
        let flat = cache.reshape([n * n_rows, d]);
        widen(flat.select(0, rows.clone()).reshape([n, width, d]))
    };
    let bias = Tensor::<B, 3>::from_data(TensorData::new(bias, [n, width, 1]), &device);
    let own = integers(own).reshape([n, width, 1]).equal_elem(1);
    let logits = (gather(k, d) * q.reshape([n, 1, d])).sum_dim(2);
    let logits = logits.mask_fill(own, SELF) + bias;
    let output = (softmax(logits, 1) * gather(v, d_v)).sum_dim(1);
    output.reshape([batch_size, n_heads, 1, d_v]).cast(dtype)
}
