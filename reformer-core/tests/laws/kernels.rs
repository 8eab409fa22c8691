//! The kernels of a backend against their reference bodies, forward and backward.

use crate::cases::{Inputs, N_BUCKETS, SHAPE, cases, inputs, slots};
use crate::common::{assert_close, normal, numbers};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use rayon::ThreadPoolBuilder;
use reformer_core::Key;
use reformer_core::kernels::{
    AttentionGradients, AttentionOutput, Duplicates, KeyRule, Keys, Masking, Qkv, ReformerBackend,
    SlotLayout, TileShape, TiledAttention, reference,
};

const TOLERANCE: f64 = 1e-5;

/// The same attention by the kernel or by the reference: forward, and backward of a gradient.
trait Case<B: ReformerBackend> {
    fn forward(&self, qkv: Qkv<B>, reference: bool) -> AttentionOutput<B>;

    fn backward(
        &self,
        qkv: Qkv<B>,
        output: AttentionOutput<B>,
        grad: Tensor<B, 4>,
        reference: bool,
    ) -> AttentionGradients<B>;
}

struct Tiled<'a, B: Backend> {
    inputs: &'a Inputs<B>,
    layout: SlotLayout,
    rules: TiledAttention,
}

impl<B: ReformerBackend> Case<B> for Tiled<'_, B> {
    fn forward(&self, qkv: Qkv<B>, reference: bool) -> AttentionOutput<B> {
        let slots = slots(self.inputs, self.layout);
        match reference {
            true => reference::tiled_attention(qkv, &slots, &self.rules),
            false => B::tiled_attention(qkv, &slots, &self.rules),
        }
    }

    fn backward(
        &self,
        qkv: Qkv<B>,
        output: AttentionOutput<B>,
        grad: Tensor<B, 4>,
        reference: bool,
    ) -> AttentionGradients<B> {
        let slots = slots(self.inputs, self.layout);
        match reference {
            true => reference::tiled_attention_backward(qkv, &slots, &self.rules, output, grad),
            false => B::tiled_attention_backward(qkv, &slots, &self.rules, output, grad),
        }
    }
}

impl<B: ReformerBackend> Case<B> for Masking<B> {
    fn forward(&self, qkv: Qkv<B>, reference: bool) -> AttentionOutput<B> {
        match reference {
            true => reference::full_attention(qkv, self),
            false => B::full_attention(qkv, self),
        }
    }

    fn backward(
        &self,
        qkv: Qkv<B>,
        output: AttentionOutput<B>,
        grad: Tensor<B, 4>,
        reference: bool,
    ) -> AttentionGradients<B> {
        match reference {
            true => reference::full_attention_backward(qkv, self, output, grad),
            false => B::full_attention_backward(qkv, self, output, grad),
        }
    }
}

/// Keys of their own and keys that are queries. Heads lie between positions, as in a model, where
/// `strided`.
fn both_keys<B: Backend>(inputs: &Inputs<B>, strided: bool) -> [Qkv<B>; 2] {
    let [q, k, v] = inputs.qkv.clone().map(|tensor| match strided {
        // The same numbers at the same indices, in another order in memory.
        true => Tensor::from_data(tensor.swap_dims(1, 2).into_data(), &Default::default())
            .swap_dims(1, 2),
        false => tensor,
    });
    [Keys::Own(k), Keys::UnitQueries(1.5)].map(|keys| Qkv {
        q: q.clone(),
        keys,
        v: v.clone(),
    })
}

/// Output and gradients as numbers, each with its name.
fn results<B: ReformerBackend>(
    case: &impl Case<B>,
    qkv: &Qkv<B>,
    reference: bool,
) -> Vec<(&'static str, Vec<f64>)> {
    let output = case.forward(qkv.clone(), reference);
    let grad = normal::<B, 4>(9, output.output.dims());
    let gradients = case.backward(qkv.clone(), output.clone(), grad, reference);
    let mut results = vec![
        ("output", numbers(output.output)),
        ("dq", numbers(gradients.q)),
        ("dv", numbers(gradients.v)),
    ];
    results.extend(gradients.k.map(|k| ("dk", numbers(k))));
    results
}

/// Both ways give the same. Where queries may see nothing at all, what they get is nobody's
/// concern: such cases are for the caller to avoid.
fn compare<B: ReformerBackend>(name: &str, case: &impl Case<B>, qkv: &Qkv<B>) {
    let found = results(case, qkv, false);
    let expected = results(case, qkv, true);
    assert_eq!(found.len(), expected.len(), "{name}");
    for ((of, found), (_, expected)) in found.iter().zip(&expected) {
        assert_close(&format!("{name}: {of}"), found, expected, TOLERANCE);
    }
}

fn tiled_is_the_reference_by_every_rule<B: ReformerBackend>() {
    for (n_rounds, padded) in [(1, true), (3, false), (4, true)] {
        let inputs = inputs::<B>(SHAPE, n_rounds, padded);
        for (name, layout, rules) in cases() {
            if padded && !rules.exclude_self {
                continue; // Padded queries may see nothing.
            }
            for dropout in [None, Some((0.25, Key::new(6)))] {
                let case = Tiled {
                    inputs: &inputs,
                    layout,
                    rules: TiledAttention { dropout, ..rules },
                };
                for qkv in both_keys(&inputs, false) {
                    compare(&format!("{n_rounds} rounds, {name}"), &case, &qkv);
                }
            }
        }
    }
}

fn chunks(length: usize, before: usize, after: usize) -> TiledAttention {
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

/// Sizes of models: tiles of many registers, and what is left over at their ends.
fn tiled_is_the_reference_at_real_sizes<B: ReformerBackend>() {
    let band = TiledAttention {
        keys: KeyRule::Band(64),
        ..chunks(32, 2, 0)
    };
    let within = TiledAttention {
        keys: KeyRule::SameBucket,
        ..chunks(64, 1, 1)
    };
    let cases = [
        ("chunks", SlotLayout::Dense(64), chunks(64, 1, 0), 4),
        ("both sides", SlotLayout::Dense(40), chunks(40, 1, 1), 3),
        ("within buckets", SlotLayout::Dense(64), within, 8),
        ("bands", SlotLayout::BucketAligned(32), band, 4),
    ];
    for (d_head, seq_length) in [(64, 333), (32, 257), (128, 130), (20, 199)] {
        for (name, layout, rules, n_rounds) in cases {
            let inputs = inputs::<B>([1, 2, seq_length, d_head], n_rounds, false);
            let case = Tiled {
                inputs: &inputs,
                layout,
                rules,
            };
            let name = format!("{name}, heads of {d_head}");
            for qkv in both_keys(&inputs, true) {
                compare(&name, &case, &qkv);
            }
        }
    }
}

fn wrapped_rounds_are_the_reference<B: ReformerBackend>() {
    let mut rules = chunks(8, 1, 0);
    rules.tile.wrap = true;
    rules.duplicates = Duplicates::Keep;
    let inputs = inputs::<B>(SHAPE, 3, false);
    let case = Tiled {
        inputs: &inputs,
        layout: SlotLayout::Dense(8),
        rules,
    };
    for qkv in both_keys(&inputs, false) {
        compare("wrapped", &case, &qkv);
    }
}

fn full_is_the_reference<B: ReformerBackend>() {
    for (padded, dropout) in [
        (false, None),
        (true, None),
        (false, Some((0.3, Key::new(8)))),
    ] {
        let inputs = inputs::<B>([2, 2, 201, 24], 1, padded);
        for (causal, exclude_self) in [(true, true), (false, true), (true, false), (false, false)] {
            if padded && !exclude_self && causal {
                continue;
            }
            let masking = Masking {
                causal,
                exclude_self,
                dropout,
                mask_pad: inputs.mask_pad.clone(),
            };
            for qkv in both_keys(&inputs, true) {
                let name = format!("causal {causal}, self excluded {exclude_self}, {dropout:?}");
                compare(&name, &masking, &qkv);
            }
        }
    }
}

/// Keys and values of another sequence, shorter or longer.
fn other_sequences_are_the_reference<B: ReformerBackend>() {
    for (seq_length, n_keys) in [(1, 300), (70, 2), (201, 333), (150, 20)] {
        let inputs = inputs::<B>([2, 2, n_keys, 24], 1, n_keys > 7);
        let [_, k, v] = inputs.qkv.clone();
        let qkv = Qkv {
            q: normal(7, [2, 2, seq_length, 24]),
            keys: Keys::Own(k),
            v,
        };
        for dropout in [None, Some((0.3, Key::new(8)))] {
            let masking = Masking {
                causal: false,
                exclude_self: false,
                dropout,
                mask_pad: inputs.mask_pad.clone(),
            };
            let name = format!("{seq_length} queries, {n_keys} keys, {dropout:?}");
            compare(&name, &masking, &qkv);
        }
    }
}

/// The slices of the reference are shorter than a tile of the kernel here.
fn full_dropout_does_not_depend_on_slices<B: ReformerBackend>() {
    let inputs = inputs::<B>([1, 1, 20_000, 2], 1, false);
    let masking = Masking {
        causal: true,
        exclude_self: true,
        dropout: Some((0.5, Key::new(8))),
        mask_pad: None,
    };
    let part = |reference| {
        let [qkv, _] = both_keys(&inputs, false);
        let output = Case::<B>::forward(&masking, qkv, reference).output;
        numbers(output.slice_dim(2, 0..700))
    };
    assert_close("20,000 positions", &part(false), &part(true), TOLERANCE);
}

fn threads_change_nothing<B: ReformerBackend>() {
    let inputs = inputs::<B>([1, 3, 700, 16], 3, false);
    let [_, qkv] = both_keys(&inputs, true);
    let tiled = Tiled {
        inputs: &inputs,
        layout: SlotLayout::Dense(16),
        rules: chunks(16, 1, 0),
    };
    let masking = Masking {
        causal: true,
        exclude_self: true,
        dropout: None,
        mask_pad: None,
    };
    let with = |n_threads| {
        let pool = ThreadPoolBuilder::new()
            .num_threads(n_threads)
            .build()
            .unwrap();
        pool.install(|| [results(&tiled, &qkv, false), results(&masking, &qkv, false)])
    };
    let one = with(1);
    for n_threads in [2, 3, 5] {
        assert_eq!(with(n_threads), one, "{n_threads} threads");
    }
}

/// The message of a panic.
fn refusal(function: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let panic = std::panic::catch_unwind(function).unwrap_err();
    *panic.downcast::<String>().unwrap()
}

fn bad_shapes_are_refused_by_name<B: ReformerBackend>() {
    let wrong = |change: fn(&mut Qkv<B>, &mut Inputs<B>)| {
        let mut inputs = inputs::<B>(SHAPE, 2, false);
        let [mut qkv, _] = both_keys(&inputs, false);
        let slots = slots(&inputs, SlotLayout::Dense(4));
        change(&mut qkv, &mut inputs);
        let slots = slots.with_padding(inputs.mask_pad);
        refusal(std::panic::AssertUnwindSafe(|| {
            B::tiled_attention(qkv, &slots, &chunks(4, 1, 0));
        }))
    };
    let message = wrong(|qkv, _| qkv.keys = Keys::Own(normal(1, [2, 2, 37, 6])));
    assert!(
        message.contains("[2, 2, 37, 5] do not fit keys of shape [2, 2, 37, 6]"),
        "{message}"
    );
    let message = wrong(|qkv, _| qkv.v = normal(1, [2, 2, 36, 7]));
    assert!(
        message.contains("[2, 2, 37, 5] do not fit values of shape [2, 2, 36, 7]"),
        "{message}"
    );
    let message = wrong(|qkv, _| {
        let shape = [1, 2, 37, 5];
        *qkv = Qkv {
            q: normal(1, shape),
            keys: Keys::UnitQueries(1.0),
            v: normal(1, shape),
        };
    });
    assert!(
        message.contains("do not fit queries of shape [1, 2, 37, 5]"),
        "{message}"
    );
    let message = wrong(|_, inputs| {
        let buckets: Tensor<B, 2, burn::tensor::Int> =
            crate::common::integers(1, [2, 36], N_BUCKETS as u32);
        inputs.mask_pad = Some(buckets.greater_elem(2));
    });
    assert!(message.contains("a mask of shape [2, 36]"), "{message}");
    let message = refusal(std::panic::AssertUnwindSafe(|| {
        let [qkv, _] = both_keys(&inputs::<B>(SHAPE, 1, false), false);
        let q = normal(1, [2, 2, 4, 5]);
        let masking = Masking {
            causal: true,
            exclude_self: false,
            dropout: None,
            mask_pad: None,
        };
        B::full_attention(Qkv { q, ..qkv }, &masking);
    }));
    assert!(message.contains("4 queries and 37 keys"), "{message}");
}

crate::on_cpu_backends!(
    tiled_is_the_reference_by_every_rule,
    tiled_is_the_reference_at_real_sizes,
    wrapped_rounds_are_the_reference,
    full_is_the_reference,
    other_sequences_are_the_reference,
    full_dropout_does_not_depend_on_slices,
    threads_change_nothing,
    bad_shapes_are_refused_by_name,
);
