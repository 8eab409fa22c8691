//! The arguments of the kernels of an attention call.

use burn::tensor::{Bool, DType, Element, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use super::plan::{Limits, Plan};
use super::sizes::LaunchSizes;
use super::sort_keys::sort_keys;
use crate::kernels::cube::device::{Cube, empty, has_tensor_cores, side_by_side};
use crate::kernels::cube::matrices::EIGHT;
use crate::kernels::cube::rows::divisors;
use crate::kernels::{Keys, Masking, Prepared, Qkv, Slots, TiledAttention};

/// Arguments of the kernels.
pub(super) struct Attention<R: CubeRuntime> {
    pub(super) plan: Plan,
    pub(super) sizes: LaunchSizes,
    pub(super) q: CubeTensor<R>,
    pub(super) k: CubeTensor<R>,
    pub(super) v: CubeTensor<R>,
    /// Divisors of queries if they are also keys, and the length of these keys.
    pub(super) divisors: CubeTensor<R>,
    pub(super) unit_keys: Option<f64>,
    pub(super) order: CubeTensor<R>,
    pub(super) sort_keys: CubeTensor<R>,
    pub(super) mask: CubeTensor<R>,
    pub(super) on_tensor_cores: bool,
}

impl<R: CubeRuntime> Attention<R> {
    pub(super) fn tiled<B: Cube<Runtime = R>>(
        qkv: Qkv<B>,
        slots: &Slots<B>,
        rules: &TiledAttention,
        prepared: Prepared<B>,
    ) -> Self {
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
            prepared.divisors,
        );
        let plan = attention.plan;
        if plan.compares_sort_keys() {
            let found = prepared.sort_keys.map(|found| {
                let LaunchSizes {
                    n_heads,
                    seq_length,
                    n_rounds,
                    ..
                } = attention.sizes;
                let wanted = [slots.order.dims()[0], n_heads, seq_length, n_rounds];
                assert_eq!(found.dims(), wanted, "sort keys that are prepared");
                assert_eq!(found.dtype(), DType::I32, "sort keys that are prepared");
                B::ints(found)
            });
            attention.sort_keys = found.unwrap_or_else(|| {
                let of_positions = [&slots.slot_of, &slots.buckets];
                let [slot_of, buckets] =
                    of_positions.map(|ints| into_contiguous(B::ints(ints.clone())));
                let gap = if plan.near { width + 1 } else { 0 };
                sort_keys(slot_of, buckets, unit, gap)
            });
        }
        attention
    }

    pub(super) fn full<B: Cube<Runtime = R>>(
        qkv: Qkv<B>,
        masking: &Masking<B>,
        prepared: Prepared<B>,
    ) -> Self {
        let sizes = LaunchSizes::of_one_round(masking.dropout);
        let (plan, mask_pad) = (Plan::full(masking), &masking.mask_pad);
        Self::new(qkv, plan, sizes, mask_pad, None, prepared.divisors)
    }

    /// What another pass over the same inputs need not compute again.
    pub(super) fn prepared<B: Cube<Runtime = R>>(&self) -> Prepared<B> {
        let compared = self.plan.compares_sort_keys();
        Prepared {
            divisors: self.unit_keys.map(|_| B::of_floats(self.divisors.clone())),
            sort_keys: compared.then(|| B::of_ints(self.sort_keys.clone())),
        }
    }

    fn new<B: Cube<Runtime = R>>(
        qkv: Qkv<B>,
        plan: Plan,
        sizes: LaunchSizes,
        mask_pad: &Option<Tensor<B, 2, Bool>>,
        order: Option<CubeTensor<R>>,
        found_divisors: Option<Tensor<B, 3>>,
    ) -> Self {
        let [batch_size, n_heads, seq_length, n_keys, d_head, d_v] = qkv.sizes();
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
            plan.suits_tensor_cores(Limits::of(&q.client)) && has_tensor_cores(&q.client, q.dtype);
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
            sizes: LaunchSizes {
                n_heads,
                seq_length,
                n_keys,
                ..sizes
            },
            divisors: match unit_keys {
                Some(length) => {
                    let found = found_divisors.map(|found| {
                        let wanted = [batch_size, n_heads, seq_length];
                        assert_eq!(found.dims(), wanted, "divisors that are prepared");
                        B::floats(found)
                    });
                    found.unwrap_or_else(|| divisors(&q, length))
                }
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
}

/// Rows whose features are contiguous and can be read as vectors of eight.
pub(super) fn in_eights<R: CubeRuntime>(rows: CubeTensor<R>) -> CubeTensor<R> {
    let mut strides = rows.meta.strides().iter().rev();
    let side_by_side = strides.next() == Some(&1);
    match side_by_side && strides.all(|stride| stride.is_multiple_of(EIGHT as usize)) {
        true => rows,
        false => into_contiguous(rows),
    }
}
