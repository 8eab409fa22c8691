//! An attention to test: its rules and data, by the kernels or by the reference.

use crate::cases::Inputs;
use crate::common::{assert_close, normal, numbers};
use crate::suite::{Subject, moved};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use reformer_core::kernels::{
    AttentionGradients, AttentionOutput, Duplicates, KeyRule, Keys, Masking, Qkv, ReformerBackend,
    Slots, TileShape, TiledAttention, reference,
};

/// What is attended over, and how.
pub(crate) enum Rules<B: Backend> {
    Tiled(Slots<B>, TiledAttention),
    Full(Masking<B>),
}

/// Who computes.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum By {
    Kernel,
    Reference,
}

/// Numbers with what they are.
pub(crate) type Results = Vec<(&'static str, Vec<f64>)>;

impl<B: ReformerBackend> Rules<B> {
    pub(crate) fn forward(&self, qkv: Qkv<B>, by: By) -> AttentionOutput<B> {
        match (self, by) {
            (Self::Tiled(slots, rules), By::Kernel) => B::tiled_attention(qkv, slots, rules),
            (Self::Tiled(slots, rules), By::Reference) => {
                reference::tiled_attention(qkv, slots, rules)
            }
            (Self::Full(masking), By::Kernel) => B::full_attention(qkv, masking),
            (Self::Full(masking), By::Reference) => reference::full_attention(qkv, masking),
        }
    }

    pub(crate) fn backward(
        &self,
        qkv: Qkv<B>,
        output: AttentionOutput<B>,
        grad: Tensor<B, 4>,
        by: By,
    ) -> AttentionGradients<B> {
        match (self, by) {
            (Self::Tiled(slots, rules), By::Kernel) => {
                B::tiled_attention_backward(qkv, slots, rules, output, grad)
            }
            (Self::Tiled(slots, rules), By::Reference) => {
                reference::tiled_attention_backward(qkv, slots, rules, output, grad)
            }
            (Self::Full(masking), By::Kernel) => {
                B::full_attention_backward(qkv, masking, output, grad)
            }
            (Self::Full(masking), By::Reference) => {
                reference::full_attention_backward(qkv, masking, output, grad)
            }
        }
    }

    /// Output and gradients. Backward gets the output of the same forward.
    pub(crate) fn run(&self, qkv: Qkv<B>, grad: Tensor<B, 4>, by: By) -> Results {
        let output = self.forward(qkv.clone(), by);
        assert_eq!(output.output.dtype(), qkv.v.dtype());
        let mut results = vec![
            ("output", numbers(output.output.clone())),
            (
                "log-sum-exp",
                numbers(output.max.clone() + output.log_sum.clone()),
            ),
        ];
        let gradients = self.backward(qkv, output, grad, by);
        results.push(("dq", numbers(gradients.q)));
        results.extend(gradients.k.map(|k| ("dk", numbers(k))));
        results.push(("dv", numbers(gradients.v)));
        results
    }

    /// The same on another backend.
    pub(crate) fn moved<J: Backend>(&self) -> Rules<J> {
        match self {
            Self::Tiled(slots, rules) => Rules::Tiled(
                Slots {
                    order: moved(slots.order.clone()),
                    slot_of: moved(slots.slot_of.clone()),
                    buckets: moved(slots.buckets.clone()),
                    mask_pad: slots.mask_pad.clone().map(moved),
                },
                *rules,
            ),
            Self::Full(masking) => Rules::Full(Masking {
                causal: masking.causal,
                exclude_self: masking.exclude_self,
                dropout: masking.dropout,
                mask_pad: masking.mask_pad.clone().map(moved),
            }),
        }
    }
}

/// A gradient of the output.
pub(crate) fn grad_of<B: Backend>(qkv: &Qkv<B>) -> Tensor<B, 4> {
    let [batch_size, n_heads, seq_length, _] = qkv.q.dims();
    normal(9, [batch_size, n_heads, seq_length, qkv.v.dims()[3]])
}

/// Kernel and judge give the same. Queries that see no key have undefined outputs: such cases are for
/// the caller to avoid.
pub(crate) fn compare<S: Subject>(name: &str, rules: &Rules<S::Backend>, qkv: &Qkv<S::Backend>) {
    compare_within::<S>(name, rules, qkv, S::TOLERANCE);
}

/// The same within a relative error.
pub(crate) fn compare_within<S: Subject>(
    name: &str,
    rules: &Rules<S::Backend>,
    qkv: &Qkv<S::Backend>,
    tolerance: f64,
) {
    let grad = grad_of(qkv);
    let judge = Qkv {
        q: moved(qkv.q.clone()),
        keys: match &qkv.keys {
            Keys::Own(k) => Keys::Own(moved(k.clone())),
            Keys::UnitQueries(length) => Keys::UnitQueries(*length),
        },
        v: moved(qkv.v.clone()),
    };
    // Nobody else's, as in a model: a kernel may write to its memory.
    let own = heads_between_positions(grad.clone());
    let found = rules.run(qkv.clone(), own, By::Kernel);
    let expected = rules
        .moved::<S::Judge>()
        .run(judge, moved(grad), By::Reference);
    assert_eq!(found.len(), expected.len(), "{name}");
    for ((of, found), (_, expected)) in found.iter().zip(&expected) {
        assert_close(&format!("{name}: {of}"), found, expected, tolerance);
    }
}

/// The same numbers at the same indices, in another order in memory.
fn heads_between_positions<B: Backend>(rows: Tensor<B, 4>) -> Tensor<B, 4> {
    let data = rows.swap_dims(1, 2).into_data();
    Tensor::from_data(data, &Default::default()).swap_dims(1, 2)
}

/// Keys of their own and keys that are queries. Heads lie between positions, as in a model, where
/// `strided`.
pub(crate) fn both_keys<B: Backend>(inputs: &Inputs<B>, strided: bool) -> [Qkv<B>; 2] {
    let [q, k, v] = inputs.qkv.clone().map(|tensor| match strided {
        true => heads_between_positions(tensor),
        false => tensor,
    });
    [Keys::Own(k), Keys::UnitQueries(1.5)].map(|keys| Qkv {
        q: q.clone(),
        keys,
        v: v.clone(),
    })
}

/// Tiles of hashed positions, of chunks.
pub(crate) fn chunks(length: usize, before: usize, after: usize) -> TiledAttention {
    TiledAttention {
        tile: TileShape {
            length,
            before,
            after,
            wrap: false,
        },
        keys: KeyRule::Across,
        duplicates: Duplicates::Exact,
        causal: after == 0,
        exclude_self: true,
        dropout: None,
    }
}
