//! Attention on tensors: splits inputs into heads and joins the results.

use burn::tensor::backend::Backend;
use burn::tensor::{Bool, DType, Tensor};
use rayon::prelude::*;

use super::element::{Element, with_element};
use super::head::{self, HeadGradients, HeadOutput, HeadRows, Tiles, UnitKeys, Upstream};
use super::host::{Floats, Host, Rows, tensor};
use super::simd::{dot, vectorized};
use crate::kernels::{AttentionGradients, AttentionOutput, Keys, Prepared, Qkv, items_of_task};

/// The tiles of the heads of a batch.
pub(super) trait HeadTiles: Sync {
    type Tiles<'a>: Tiles
    where
        Self: 'a;

    /// The tiles of head `number`, numbered across the batch.
    fn head(&self, number: usize) -> Self::Tiles<'_>;
}

/// Which keys are padding.
pub(super) struct Padding {
    n_keys: usize,
    /// `[batch_size, n_keys]`
    mask: Vec<bool>,
}

impl Padding {
    /// Copies a mask to the host.
    pub(super) fn new<B: Backend>(mask_pad: &Tensor<B, 2, Bool>) -> Self {
        Self {
            n_keys: mask_pad.dims()[1],
            mask: mask_pad.to_data().iter::<bool>().collect(),
        }
    }

    /// Of one sequence: `[n_keys]`.
    pub(super) fn of(&self, batch: usize) -> &[bool] {
        &self.mask[batch * self.n_keys..][..self.n_keys]
    }
}

/// Inputs of all heads, borrowed from the tensors where possible.
struct Inputs<B: Host, E: Element> {
    q: Floats<B, 4, E>,
    k: Option<Floats<B, 4, E>>,
    v: Floats<B, 4, E>,
    /// See [`UnitKeys`]; scales have shape `[heads in the batch, seq_length]`.
    unit_keys: Option<(Vec<f32>, f32)>,
    /// Number of heads in the batch.
    n: usize,
    seq_length: usize,
}

impl<B: Host, E: Element> Inputs<B, E> {
    fn new(qkv: Qkv<B>) -> Self {
        let [batch_size, n_heads, seq_length, ..] = qkv.sizes();
        let n = batch_size * n_heads;
        let q = Floats::rows_of(qkv.q);
        let (k, unit_keys) = match qkv.keys {
            Keys::Own(k) => (Some(Floats::rows_of(k)), None),
            Keys::UnitQueries(length) => {
                let mut scales = vec![0.0; n * seq_length];
                scales
                    .par_chunks_mut(seq_length)
                    .enumerate()
                    .for_each(|(number, scales)| head::key_scales(q.head(number), length, scales));
                (None, Some((scales, length as f32)))
            }
        };
        Self {
            q,
            k,
            v: Floats::rows_of(qkv.v),
            unit_keys,
            n,
            seq_length,
        }
    }

    fn head(&self, number: usize) -> HeadRows<'_, E> {
        let q = self.q.head(number);
        HeadRows {
            q,
            k: self.k.as_ref().map_or(q, |k| k.head(number)),
            unit_keys: self.unit_keys.as_ref().map(|(scales, length)| UnitKeys {
                scales: &scales[number * self.seq_length..][..self.seq_length],
                length: *length,
            }),
            v: self.v.head(number),
        }
    }
}

/// Attention of all heads.
pub(super) fn forward<B: Host>(qkv: Qkv<B>, heads: &impl HeadTiles) -> AttentionOutput<B> {
    with_element!(qkv.q.dtype(), E => forward_of::<B, E>(qkv, heads))
}

fn forward_of<B: Host, E: Element>(qkv: Qkv<B>, heads: &impl HeadTiles) -> AttentionOutput<B> {
    let [batch_size, n_heads, seq_length, _, _, d_v] = qkv.sizes();
    let (device, dtype) = (qkv.q.device(), qkv.q.dtype());
    let inputs = Inputs::<B, E>::new(qkv);
    let at_once = head::tiles_at_once(inputs.n);
    let n_rows = inputs.n * seq_length;
    let mut max = vec![f32::NEG_INFINITY; n_rows];
    let mut sum = vec![0.0; n_rows];
    let output = max
        .par_chunks_mut(seq_length)
        .zip(sum.par_chunks_mut(seq_length))
        .enumerate()
        .map(|(number, (max, sum))| {
            let mut output = vec![0.0; seq_length * d_v];
            let to = HeadOutput {
                first: 0,
                output: &mut output,
                max,
                sum,
            };
            head::forward(&heads.head(number), at_once, &inputs.head(number), to);
            output
        })
        .collect();
    // Frees the memory of copies before the output is joined.
    drop(inputs);
    let stats = [batch_size, n_heads, seq_length, 1];
    AttentionOutput {
        output: joined::<E, B>(
            output,
            [batch_size, n_heads, seq_length, d_v],
            dtype,
            &device,
        ),
        max: tensor(max, stats, DType::F32, &device),
        log_sum: tensor(sum, stats, DType::F32, &device),
        prepared: Prepared::default(),
    }
}

/// Joins heads, `[seq_length, d]` each, into `[batch_size, n_heads, seq_length, d]` with the memory
/// layout `[batch_size, seq_length, n_heads, d]`: merging the heads then copies nothing.
pub(super) fn joined<E: Element, B: Backend>(
    heads: Vec<Vec<f32>>,
    [batch_size, n_heads, seq_length, d]: [usize; 4],
    dtype: DType,
    device: &B::Device,
) -> Tensor<B, 4> {
    let mut joined = vec![E::default(); heads.len() * seq_length * d];
    joined
        .par_chunks_mut(n_heads * d)
        .enumerate()
        .with_min_len(items_of_task(n_heads * d))
        .for_each(|(row, joined)| {
            let (batch, position) = (row / seq_length, row % seq_length);
            let heads = &heads[batch * n_heads..][..n_heads];
            for (head, to) in heads.iter().zip(joined.chunks_exact_mut(d)) {
                for (to, &x) in to.iter_mut().zip(&head[position * d..][..d]) {
                    *to = E::narrow(x);
                }
            }
        });
    tensor(joined, [batch_size, seq_length, n_heads, d], dtype, device).swap_dims(1, 2)
}

/// Gradients of all heads.
pub(super) fn backward<B: Host>(
    qkv: Qkv<B>,
    heads: &impl HeadTiles,
    output: AttentionOutput<B>,
    grad: Tensor<B, 4>,
) -> AttentionGradients<B> {
    with_element!(qkv.q.dtype(), E => backward_of::<B, E>(qkv, heads, output, grad))
}

fn backward_of<B: Host, E: Element>(
    qkv: Qkv<B>,
    heads: &impl HeadTiles,
    output: AttentionOutput<B>,
    grad: Tensor<B, 4>,
) -> AttentionGradients<B> {
    let [batch_size, n_heads, seq_length, n_keys, d, d_v] = qkv.sizes();
    let (device, dtype) = (qkv.q.device(), qkv.q.dtype());
    let inputs = Inputs::<B, E>::new(qkv);
    let [max, log_sum] = [output.max, output.log_sum].map(Floats::<B, 4>::row_major);
    let [grad, output] = [grad, output.output].map(Floats::<B, 4, E>::rows_of);

    let at_once = head::tiles_at_once(inputs.n);
    let of_head = |number: usize| {
        let positions = number * seq_length..(number + 1) * seq_length;
        let grad = grad.head(number);
        let upstream = Upstream {
            grad,
            max: &max.slice()[positions.clone()],
            log_sum: &log_sum.slice()[positions],
            delta: &deltas(grad, output.head(number), seq_length),
        };
        let rows = inputs.head(number);
        let zeros = |length: usize, d: usize| vec![0.0; length * d];
        let (mut dq, mut dv) = (zeros(seq_length, d), zeros(n_keys, d_v));
        let mut dk = rows.unit_keys.is_none().then(|| zeros(n_keys, d));
        let to = HeadGradients {
            q: &mut dq,
            k: dk.as_deref_mut(),
            v: &mut dv,
        };
        head::backward(&heads.head(number), at_once, &rows, &upstream, to);
        ((dq, dk), dv)
    };
    let ((dq, dk), dv): ((Vec<_>, Vec<Option<_>>), Vec<_>) =
        (0..inputs.n).into_par_iter().map(of_head).unzip();
    // Frees tensors of the size of the sequence that are not needed any more.
    drop((inputs, max, log_sum, grad, output));
    let shape = |length: usize, d: usize| [batch_size, n_heads, length, d];
    let dk: Option<Vec<_>> = dk.into_iter().collect();
    AttentionGradients {
        q: joined::<E, B>(dq, shape(seq_length, d), dtype, &device),
        k: dk.map(|dk| joined::<E, B>(dk, shape(n_keys, d), dtype, &device)),
        v: joined::<E, B>(dv, shape(n_keys, d_v), dtype, &device),
    }
}

/// `D`, the dot product of gradient and output at each position.
fn deltas<E: Element>(grad: Rows<E>, output: Rows<E>, seq_length: usize) -> Vec<f32> {
    let mut deltas = vec![0.0; seq_length];
    vectorized(
        #[inline(always)]
        || {
            for (position, delta) in deltas.iter_mut().enumerate() {
                *delta = dot(grad.row(position), output.row(position));
            }
        },
    );
    deltas
}
