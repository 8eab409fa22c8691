//! Attention inside tiles of a sorted sequence, and over a whole one, with the same kernels.
//!
//! Rounds are launched together, each with its own results, which are merged at the end: a position
//! has one slot in each round, so no two cubes write the same row. If memory is short, heads are
//! processed in groups; if it is too short for all rounds of one head, a round is merged with the
//! previous ones. Rows of a tile are gathered by position, and keys that are queries are normalised
//! when they are read. Blocks of keys that no query of the cube can see are skipped.

mod cube_rows;
mod forward;
mod gradients;
mod logit;
mod plan;
mod portion;
mod rounds;
mod row;
mod shared_rows;
mod sort_keys;
mod tensor_cores;

use core::ops::Range;

use burn::tensor::{Bool, DType, Element, Tensor};
use burn_cubecl::cubecl::prelude::{AddressType, CubeDim};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use super::device::{Cube, cubes, empty, has_tensor_cores, offsets, room_for_rounds, side_by_side};
use super::rows::{add_rounds, dims, divisors, join_rounds, statistics, through_keys};
use crate::kernels::{
    AttentionGradients, AttentionOutput, Keys, Masking, Qkv, Slots, TiledAttention,
};
use plan::{LaunchSizes, Limits, Plan, Sweep};
use portion::Portion;
use sort_keys::sort_keys;

/// Arguments of the kernels.
struct Attention<R: CubeRuntime> {
    plan: Plan,
    numbers: LaunchSizes,
    q: CubeTensor<R>,
    k: CubeTensor<R>,
    v: CubeTensor<R>,
    /// Divisors of queries if they are also keys, and the length of these keys.
    divisors: CubeTensor<R>,
    unit_keys: Option<f64>,
    order: CubeTensor<R>,
    sort_keys: CubeTensor<R>,
    mask: CubeTensor<R>,
    on_tensor_cores: bool,
}

impl<R: CubeRuntime> Attention<R> {
    fn tiled<B: Cube<Runtime = R>>(qkv: Qkv<B>, slots: &Slots<B>, rules: &TiledAttention) -> Self {
        let [_, _, n_rounds, n_slots] = slots.order.dims();
        let [unit, after, width] = rules.nearness();
        let mut attention = Self::new(
            qkv,
            Plan::tiled(rules, n_rounds),
            LaunchSizes {
                n_slots,
                n_rounds,
                after,
                width,
                ..LaunchSizes::of_one_round(rules.dropout)
            },
            &slots.mask_pad,
            Some(into_contiguous(B::ints(slots.order.clone()))),
        );
        let plan = attention.plan;
        if plan.near || plan.counted_rounds > 0 {
            let of_positions = [&slots.slot_of, &slots.buckets];
            let [slot_of, buckets] =
                of_positions.map(|ints| into_contiguous(B::ints(ints.clone())));
            let gap = if plan.near { width + 1 } else { 0 };
            attention.sort_keys = sort_keys(slot_of, buckets, unit, gap);
        }
        attention
    }

    fn full<B: Cube<Runtime = R>>(qkv: Qkv<B>, masking: &Masking<B>) -> Self {
        let numbers = LaunchSizes::of_one_round(masking.dropout);
        Self::new(qkv, Plan::full(masking), numbers, &masking.mask_pad, None)
    }

    fn new<B: Cube<Runtime = R>>(
        qkv: Qkv<B>,
        plan: Plan,
        numbers: LaunchSizes,
        mask_pad: &Option<Tensor<B, 2, Bool>>,
        order: Option<CubeTensor<R>>,
    ) -> Self {
        let [_, n_heads, seq_length, n_keys, d_head, d_v] = qkv.sizes();
        let (q, v) = (side_by_side(B::floats(qkv.q)), B::floats(qkv.v));
        // Kernels need all arguments, including those that they are compiled not to use.
        let beside = q.clone();
        let nothing = |dtype| empty(&beside, [1, 1, 1, 1], dtype);
        let order = order.unwrap_or_else(|| nothing(B::IntElem::dtype()));
        let mask = mask_pad.as_ref().map(|mask| {
            let mask = mask.clone().int().cast(order.dtype);
            into_contiguous(B::ints(mask))
        });
        let (k, unit_keys) = match qkv.keys {
            Keys::Own(k) => (B::floats(k), None),
            Keys::UnitQueries(length) => (q.clone(), Some(length)),
        };
        let plan = Plan {
            d_head: d_head as u32,
            d_v: d_v as u32,
            padded: mask.is_some(),
            unit_keys: unit_keys.is_some(),
            ..plan
        };
        let on_tensor_cores =
            plan.suits_cores(Limits::of(&q.client)) && has_tensor_cores(&q.client, q.dtype);
        let [q, k, v] = [q, k, v].map(|rows| {
            if on_tensor_cores {
                in_eights(rows)
            } else {
                rows
            }
        });
        Self {
            plan,
            on_tensor_cores,
            numbers: LaunchSizes {
                n_heads,
                seq_length,
                n_keys,
                ..numbers
            },
            divisors: match unit_keys {
                Some(length) => divisors(&q, length),
                None => nothing(DType::F32),
            },
            sort_keys: nothing(DType::I32),
            mask: mask.unwrap_or_else(|| nothing(order.dtype)),
            unit_keys,
            order,
            q,
            k,
            v,
        }
    }

    /// Uninitialised rows `[batch_size, n_heads, length, d]` with the memory layout
    /// `[batch_size, length, n_heads, d]`: merging the heads then copies nothing.
    fn rows(&self, length: usize, d: usize, dtype: DType) -> CubeTensor<R> {
        let [batch_size, n_heads, ..] = dims(&self.q);
        let mut rows = empty(&self.q, [batch_size, length, n_heads, d], dtype);
        rows.meta.swap(1, 2);
        rows
    }

    /// Number of heads in the batch.
    fn n(&self) -> usize {
        let [batch_size, n_heads, ..] = dims(&self.q);
        batch_size * n_heads
    }

    /// Type of the rows of a round: on tensor cores, that of the factors of the next product.
    fn dtype_of_rounds(&self) -> DType {
        match self.on_tensor_cores {
            true => self.q.dtype,
            false => DType::F32,
        }
    }

    /// Heads and rounds to process at a time, if a round of a head writes this many numbers to a tensor.
    fn portion(&self, numbers: usize) -> Portion {
        let room = room_for_rounds(&self.q.client);
        let bytes = self.dtype_of_rounds().size() * numbers;
        Portion::new(room, bytes, self.n(), self.numbers.n_rounds)
    }

    /// Results of the rounds of a range of heads: see [`rows`](super::rows).
    fn results(
        &self,
        of: &Portion,
        heads: &Range<usize>,
        [length, d]: [usize; 2],
        dtype: DType,
    ) -> CubeTensor<R> {
        empty(&self.q, [1, of.rounds * heads.len(), length, d], dtype)
    }

    /// The plan of a sweep, with the number of cubes for a round of a head.
    fn cut(&self, pass: Sweep) -> (Plan, usize, CubeDim) {
        let n_rows = match pass {
            Sweep::OfKeys => self.numbers.n_keys,
            Sweep::Forward | Sweep::OfQueries => self.numbers.seq_length,
        };
        let limits = Limits::of(&self.q.client);
        let (plan, units) = self.plan.cut(pass, n_rows, self.on_tensor_cores, limits);
        let blocks = plan.blocks(match plan.sorted {
            true => self.numbers.n_slots,
            false => n_rows,
        });
        (plan, blocks, units)
    }

    fn offsets(&self) -> AddressType {
        offsets(&[&self.q, &self.k, &self.v, &self.order, &self.sort_keys])
    }

    /// Output in a given type, its largest log-sum-exp of a round and the log-sum relative to it.
    fn forward(self, dtype: DType) -> [CubeTensor<R>; 3] {
        let [batch_size, n_heads, seq_length, _] = dims(&self.q);
        let d_v = self.plan.d_v as usize;
        let statistic = || empty(&self.q, [batch_size, n_heads, seq_length, 1], DType::F32);
        let joined = [self.rows(seq_length, d_v, dtype), statistic(), statistic()];
        let portion = self.portion(seq_length * d_v);
        for heads in portion.heads_of(self.n()) {
            let dtype = self.dtype_of_rounds();
            let of_rounds = [(d_v, dtype), (1, DType::F32), (1, DType::F32)]
                .map(|(d, dtype)| self.results(&portion, &heads, [seq_length, d], dtype));
            for rounds in portion.rounds_of(self.numbers.n_rounds) {
                self.attend(&of_rounds, &heads, &rounds);
            }
            join_rounds(of_rounds, &joined, (heads.start, portion.rounds));
        }
        joined
    }

    fn attend(
        &self,
        [output, max, sum]: &[CubeTensor<R>; 3],
        heads: &Range<usize>,
        rounds: &Range<usize>,
    ) {
        let (plan, blocks, units) = self.cut(Sweep::Forward);
        let attend = match self.on_tensor_cores {
            true => tensor_cores::forward::attend::launch,
            false => forward::attend::launch,
        };
        attend(
            &self.q.client,
            cubes(&self.q.client, heads.len() * rounds.len() * blocks),
            units,
            self.offsets().max(offsets(&[output])),
            self.q.clone().into_tensor_arg(),
            self.k.clone().into_tensor_arg(),
            self.v.clone().into_tensor_arg(),
            self.divisors.clone().into_tensor_arg(),
            self.order.clone().into_tensor_arg(),
            self.sort_keys.clone().into_tensor_arg(),
            self.mask.clone().into_tensor_arg(),
            output.clone().into_tensor_arg(),
            max.clone().into_tensor_arg(),
            sum.clone().into_tensor_arg(),
            self.numbers.launch(heads, rounds, blocks),
            plan,
            [self.q.dtype.into(), self.order.dtype.into()],
        );
    }

    /// Gradients of queries (including the part through keys that are queries), keys and values, in
    /// a given type. If keys are queries, their gradient is that of the queries.
    fn backward(
        self,
        grad: CubeTensor<R>,
        statistics: CubeTensor<R>,
        dtype: DType,
    ) -> [CubeTensor<R>; 3] {
        let LaunchSizes {
            seq_length, n_keys, ..
        } = self.numbers;
        let (d_head, d_v) = (self.plan.d_head as usize, self.plan.d_v as usize);
        let grad = if self.on_tensor_cores {
            in_eights(grad)
        } else {
            grad
        };
        let dq = self.rows(seq_length, d_head, dtype);
        let dk = match self.unit_keys {
            Some(_) => dq.clone(),
            None => self.rows(n_keys, d_head, dtype),
        };
        let dv = self.rows(n_keys, d_v, dtype);
        let portion = self.portion(seq_length.max(n_keys) * d_head.max(d_v));
        for heads in portion.heads_of(self.n()) {
            let [of_q, of_k, of_v] = [[seq_length, d_head], [n_keys, d_head], [n_keys, d_v]]
                .map(|size| self.results(&portion, &heads, size, self.dtype_of_rounds()));
            for rounds in portion.rounds_of(self.numbers.n_rounds) {
                self.differentiate(
                    [&self.q, &self.k, &grad, &self.v],
                    &statistics,
                    [&of_q, &of_v],
                    (Sweep::OfQueries, &heads, &rounds),
                );
                self.differentiate(
                    [&self.k, &self.q, &self.v, &grad],
                    &statistics,
                    [&of_k, &of_v],
                    (Sweep::OfKeys, &heads, &rounds),
                );
            }
            let of = (heads.start, portion.rounds);
            match self.unit_keys {
                Some(length) => {
                    let keys = [&self.q, &self.divisors];
                    through_keys(keys, length, [of_q, of_k], &dq, of);
                }
                None => {
                    add_rounds(of_q, &dq, of);
                    add_rounds(of_k, &dk, of);
                }
            }
            add_rounds(of_v, &dv, of);
        }
        [dq, dk, dv]
    }

    /// Gradients of the rows of one side; `values` only if these are keys.
    fn differentiate(
        &self,
        [rows, others, ups, downs]: [&CubeTensor<R>; 4],
        statistics: &CubeTensor<R>,
        [sums, values]: [&CubeTensor<R>; 2],
        (pass, heads, rounds): (Sweep, &Range<usize>, &Range<usize>),
    ) {
        let (plan, blocks, units) = self.cut(pass);
        let differentiate = match self.on_tensor_cores {
            true => tensor_cores::gradients::differentiate::launch,
            false => gradients::differentiate::launch,
        };
        differentiate(
            &self.q.client,
            cubes(&self.q.client, heads.len() * rounds.len() * blocks),
            units,
            self.offsets().max(offsets(&[sums, values])),
            rows.clone().into_tensor_arg(),
            others.clone().into_tensor_arg(),
            ups.clone().into_tensor_arg(),
            downs.clone().into_tensor_arg(),
            self.divisors.clone().into_tensor_arg(),
            self.order.clone().into_tensor_arg(),
            self.sort_keys.clone().into_tensor_arg(),
            self.mask.clone().into_tensor_arg(),
            statistics.clone().into_tensor_arg(),
            sums.clone().into_tensor_arg(),
            values.clone().into_tensor_arg(),
            self.numbers.launch(heads, rounds, blocks),
            plan,
            [self.q.dtype.into(), self.order.dtype.into()],
        );
    }
}

/// Rows whose features are contiguous and can be read as vectors of eight.
fn in_eights<R: CubeRuntime>(rows: CubeTensor<R>) -> CubeTensor<R> {
    let mut strides = rows.meta.strides().iter().rev();
    let side_by_side = strides.next() == Some(&1);
    match side_by_side && strides.all(|stride| stride.is_multiple_of(tensor_cores::EIGHT as usize))
    {
        true => rows,
        false => into_contiguous(rows),
    }
}

fn output_of<B: Cube>(attention: Attention<B::Runtime>, dtype: DType) -> AttentionOutput<B> {
    let [output, max, log_sum] = attention.forward(dtype);
    AttentionOutput {
        output: B::of_floats(output),
        max: B::of_floats(max),
        log_sum: B::of_floats(log_sum),
    }
}

fn gradients_of<B: Cube>(
    attention: Attention<B::Runtime>,
    output: AttentionOutput<B>,
    grad: Tensor<B, 4>,
    dtype: DType,
) -> AttentionGradients<B> {
    let own_keys = attention.unit_keys.is_none();
    let grad = B::floats(grad);
    let [max, log_sum] = [output.max, output.log_sum].map(|of| into_contiguous(B::floats(of)));
    let statistics = statistics(B::floats(output.output), &grad, max, log_sum);
    let [q, k, v] = attention.backward(grad, statistics, dtype);
    AttentionGradients {
        q: B::of_floats(q),
        k: own_keys.then(|| B::of_floats(k)),
        v: B::of_floats(v),
    }
}

/// See [`ReformerBackend::tiled_attention`](crate::kernels::ReformerBackend::tiled_attention).
pub(in crate::kernels) fn tiled_attention<B: Cube>(
    qkv: Qkv<B>,
    slots: &Slots<B>,
    rules: &TiledAttention,
) -> AttentionOutput<B> {
    let dtype = qkv.v.dtype();
    output_of(Attention::tiled(qkv, slots, rules), dtype)
}

/// See [`ReformerBackend::tiled_attention_backward`](crate::kernels::ReformerBackend::tiled_attention_backward).
pub(in crate::kernels) fn tiled_attention_backward<B: Cube>(
    qkv: Qkv<B>,
    slots: &Slots<B>,
    rules: &TiledAttention,
    output: AttentionOutput<B>,
    grad: Tensor<B, 4>,
) -> AttentionGradients<B> {
    let dtype = qkv.q.dtype();
    gradients_of(Attention::tiled(qkv, slots, rules), output, grad, dtype)
}

/// See [`ReformerBackend::full_attention`](crate::kernels::ReformerBackend::full_attention).
pub(in crate::kernels) fn full_attention<B: Cube>(
    qkv: Qkv<B>,
    masking: &Masking<B>,
) -> AttentionOutput<B> {
    let dtype = qkv.v.dtype();
    output_of(Attention::full(qkv, masking), dtype)
}

/// See [`ReformerBackend::full_attention_backward`](crate::kernels::ReformerBackend::full_attention_backward).
pub(in crate::kernels) fn full_attention_backward<B: Cube>(
    qkv: Qkv<B>,
    masking: &Masking<B>,
    output: AttentionOutput<B>,
    grad: Tensor<B, 4>,
) -> AttentionGradients<B> {
    let dtype = qkv.q.dtype();
    gradients_of(Attention::full(qkv, masking), output, grad, dtype)
}
