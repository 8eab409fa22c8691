//! Attention inside tiles of a sorted sequence, and over a whole one, with the same kernels.
//!
//! Rounds are launched together, each with its own results, which are merged at the end: a position
//! has one slot in each round, so no two cubes write the same row. If memory is short, heads are
//! processed in groups; if it is too short for all rounds of one head, a round is merged with the
//! previous ones. Rows of a tile are gathered by position, and keys that are queries are normalised
//! when they are read. Blocks of keys that no query of the cube can see are skipped.

mod arguments;
mod cube_rows;
mod forward;
mod gradients;
mod logit;
mod plan;
mod portion;
mod rounds;
mod row;
mod shared_rows;
mod sizes;
mod sort_keys;
mod tables;
mod tensor_cores;

use core::ops::Range;

use burn::tensor::{DType, Tensor};
use burn_cubecl::cubecl::prelude::{AddressType, CubeDim};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use super::device::{Cube, cubes, empty, is_own, offsets, room_for_rounds};
use super::merge::{add_rounds, join_rounds, through_keys};
use super::rows::{dims, statistics};
use crate::kernels::{
    AttentionGradients, AttentionOutput, Masking, Prepared, Qkv, Slots, TiledAttention,
};
use arguments::{Attention, in_eights};
use plan::{Limits, Plan, Sweep};
use portion::Portion;
use sizes::LaunchSizes;
use tables::{AnyFloat, AnyInt, TablesLaunch};

impl<R: CubeRuntime> Attention<R> {
    /// Uninitialised rows `[batch_size, n_heads, length, d]` with the memory layout
    /// `[batch_size, length, n_heads, d]`: merging the heads then copies nothing.
    fn rows(&self, length: usize, d: usize, dtype: DType) -> CubeTensor<R> {
        let [batch_size, n_heads, ..] = dims(&self.q);
        let mut rows = empty(&self.q, [batch_size, length, n_heads, d], dtype);
        rows.meta.swap(1, 2);
        rows
    }

    /// The same in the memory of a tensor that is not needed any more, if it is not shared and suits.
    fn rows_in(
        &self,
        spent: &CubeTensor<R>,
        length: usize,
        d: usize,
        dtype: DType,
    ) -> CubeTensor<R> {
        let [batch_size, n_heads, ..] = dims(&self.q);
        let adjacent = [length * n_heads * d, d, n_heads * d, 1];
        let suits = dims(spent) == [batch_size, n_heads, length, d]
            && spent.dtype == dtype
            && spent.meta.strides()[..] == adjacent;
        match suits && is_own(spent) {
            true => spent.clone(),
            false => self.rows(length, d, dtype),
        }
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
        Portion::new(room, bytes, self.n(), self.sizes.n_rounds)
    }

    /// Results of the rounds of a range of heads: see [`merge`](super::merge).
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
    fn cut(&self, sweep: Sweep) -> (Plan, usize, CubeDim) {
        let n_rows = match sweep {
            Sweep::OfKeys => self.sizes.n_keys,
            Sweep::Forward | Sweep::OfQueries => self.sizes.seq_length,
        };
        let limits = Limits::of(&self.q.client);
        let (plan, units) = self.plan.cut(sweep, n_rows, self.on_tensor_cores, limits);
        let n_cubes = plan.n_cubes(match plan.sorted {
            true => self.sizes.n_slots,
            false => n_rows,
        });
        (plan, n_cubes, units)
    }

    /// Arguments that all kernels have, for heads and rounds with so many cubes each.
    fn tables(
        &self,
        statistics: Option<&CubeTensor<R>>,
        (heads, rounds, n_cubes): (&Range<usize>, &Range<usize>, usize),
    ) -> TablesLaunch<AnyInt, R> {
        TablesLaunch::new(
            self.divisors.clone().into_tensor_arg(),
            self.order.clone().into_tensor_arg(),
            self.sort_keys.clone().into_tensor_arg(),
            self.mask.clone().into_tensor_arg(),
            statistics.map(|of| of.clone().into_tensor_arg()).into(),
            self.sizes.launch(heads, rounds, n_cubes),
        )
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
            for rounds in portion.rounds_of(self.sizes.n_rounds) {
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
        let (plan, n_cubes, units) = self.cut(Sweep::Forward);
        let attend = match self.on_tensor_cores {
            true => tensor_cores::forward::attend::launch::<AnyFloat, AnyInt, R>,
            false => forward::attend::launch::<AnyFloat, AnyInt, R>,
        };
        attend(
            &self.q.client,
            cubes(&self.q.client, heads.len() * rounds.len() * n_cubes),
            units,
            self.offsets().max(offsets(&[output])),
            self.q.clone().into_tensor_arg(),
            self.k.clone().into_tensor_arg(),
            self.v.clone().into_tensor_arg(),
            self.tables(None, (heads, rounds, n_cubes)),
            output.clone().into_tensor_arg(),
            max.clone().into_tensor_arg(),
            sum.clone().into_tensor_arg(),
            plan,
            [self.q.dtype.into(), self.order.dtype.into()],
        );
    }

    /// Gradients of queries (including the part through keys that are queries), keys and values, in
    /// a given type. If keys are queries, their gradient is that of the queries.
    ///
    /// A head's rows are read before its gradients are written, so that these take the memory of the output and
    /// of its gradient where those are not shared.
    fn backward(
        self,
        [output, max, log_sum]: [CubeTensor<R>; 3],
        grad: CubeTensor<R>,
        dtype: DType,
    ) -> [CubeTensor<R>; 3] {
        let LaunchSizes {
            seq_length, n_keys, ..
        } = self.sizes;
        let (d_head, d_v) = (self.plan.d_head as usize, self.plan.d_v as usize);
        let portion = self.portion(seq_length.max(n_keys) * d_head.max(d_v));
        let results = |heads: &Range<usize>| {
            let sizes = [[seq_length, d_head], [n_keys, d_head], [n_keys, d_v]];
            let dtype = self.dtype_of_rounds();
            sizes.map(|size| self.results(&portion, heads, size, dtype))
        };
        // Before the statistics, which are smaller and stay: those fit into a gap beside them.
        let mut first_results = portion
            .heads_of(self.n())
            .next()
            .map(|heads| results(&heads));
        let statistics = statistics(&output, &grad, max, log_sum);
        let grad = if self.on_tensor_cores {
            in_eights(grad)
        } else {
            grad
        };
        let dq = self.rows_in(&output, seq_length, d_head, dtype);
        let dk = match self.unit_keys {
            Some(_) => dq.clone(),
            None => self.rows(n_keys, d_head, dtype),
        };
        let dv = self.rows_in(&grad, n_keys, d_v, dtype);
        for heads in portion.heads_of(self.n()) {
            let [of_q, of_k, of_v] = first_results.take().unwrap_or_else(|| results(&heads));
            for rounds in portion.rounds_of(self.sizes.n_rounds) {
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
        (sweep, heads, rounds): (Sweep, &Range<usize>, &Range<usize>),
    ) {
        let (plan, n_cubes, units) = self.cut(sweep);
        let differentiate = match self.on_tensor_cores {
            true => tensor_cores::gradients::differentiate::launch::<AnyFloat, AnyInt, R>,
            false => gradients::differentiate::launch::<AnyFloat, AnyInt, R>,
        };
        differentiate(
            &self.q.client,
            cubes(&self.q.client, heads.len() * rounds.len() * n_cubes),
            units,
            self.offsets().max(offsets(&[sums, values])),
            rows.clone().into_tensor_arg(),
            others.clone().into_tensor_arg(),
            ups.clone().into_tensor_arg(),
            downs.clone().into_tensor_arg(),
            self.tables(Some(statistics), (heads, rounds, n_cubes)),
            sums.clone().into_tensor_arg(),
            values.clone().into_tensor_arg(),
            plan,
            [self.q.dtype.into(), self.order.dtype.into()],
        );
    }
}

fn output_of<B: Cube>(attention: Attention<B::Runtime>, dtype: DType) -> AttentionOutput<B> {
    let prepared = attention.prepared();
    let [output, max, log_sum] = attention.forward(dtype);
    AttentionOutput {
        output: B::of_floats(output),
        max: B::of_floats(max),
        log_sum: B::of_floats(log_sum),
        prepared,
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
    let output = [B::floats(output.output), max, log_sum];
    let [q, k, v] = attention.backward(output, grad, dtype);
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
    let attention = Attention::tiled(qkv, slots, rules, Prepared::default());
    output_of(attention, dtype)
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
    let attention = Attention::tiled(qkv, slots, rules, output.prepared.clone());
    gradients_of(attention, output, grad, dtype)
}

/// See [`ReformerBackend::full_attention`](crate::kernels::ReformerBackend::full_attention).
pub(in crate::kernels) fn full_attention<B: Cube>(
    qkv: Qkv<B>,
    masking: &Masking<B>,
) -> AttentionOutput<B> {
    let dtype = qkv.v.dtype();
    let attention = Attention::full(qkv, masking, Prepared::default());
    output_of(attention, dtype)
}

/// See [`ReformerBackend::full_attention_backward`](crate::kernels::ReformerBackend::full_attention_backward).
pub(in crate::kernels) fn full_attention_backward<B: Cube>(
    qkv: Qkv<B>,
    masking: &Masking<B>,
    output: AttentionOutput<B>,
    grad: Tensor<B, 4>,
) -> AttentionGradients<B> {
    let dtype = qkv.q.dtype();
    let attention = Attention::full(qkv, masking, output.prepared.clone());
    gradients_of(attention, output, grad, dtype)
}
