//! What holds for any length, batch, window, chunk and number of rounds.

use crate::common::{assert_close, drawn, integers, normal, numbers};
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Int, Tensor};
use proptest::prelude::*;
use reformer_core::attention::{
    Attention, AttentionKind, Buckets, ExactUpTo, FullAttentionConfig, HeadsConfig,
    LocalAttentionConfig, LocalConfig, LshAttentionConfig, LshConfig, Window,
};
use reformer_core::kernels::{Duplicates, ReformerBackend};
use reformer_core::model::ReformerConfig;
use reformer_core::{Key, Pass};

const D_MODEL: usize = 12;

#[derive(Debug, Clone)]
enum Kind {
    Lsh(LshConfig),
    Local(LocalConfig),
    Full,
}

fn window() -> impl Strategy<Value = Window> {
    prop_oneof![
        (0..3usize, 0..3usize, any::<bool>()).prop_map(|(before, after, within_bucket)| {
            Window::Chunk {
                before,
                after,
                within_bucket,
            }
        }),
        (1..80usize).prop_map(|len| Window::Bucket { len }),
    ]
}

fn lsh() -> impl Strategy<Value = Kind> {
    let buckets = prop_oneof![
        Just(Buckets::Auto),
        (1..12usize).prop_map(|half| Buckets::Count(2 * half)),
        Just(Buckets::Factors(vec![4, 6])),
    ];
    let exact = prop_oneof![Just(ExactUpTo::Never), Just(ExactUpTo::Window)];
    let duplicates = prop_oneof![Just(Duplicates::Exact), Just(Duplicates::Keep)];
    (1..5usize, 1..70usize, window(), buckets, exact, duplicates).prop_map(
        |(n_rounds, chunk_length, window, n_buckets, exact_up_to, duplicates)| {
            Kind::Lsh(
                LshConfig::new()
                    .with_n_rounds(n_rounds)
                    .with_chunk_length(chunk_length)
                    .with_window(window)
                    .with_n_buckets(n_buckets)
                    .with_exact_up_to(exact_up_to)
                    .with_duplicates(duplicates),
            )
        },
    )
}

fn kind() -> impl Strategy<Value = Kind> {
    let local = (1..70usize, 0..3usize, 0..3usize, any::<bool>()).prop_map(
        |(chunk_length, before, after, share_qk)| {
            Kind::Local(
                LocalConfig::new()
                    .with_chunk_length(chunk_length)
                    .with_before(before)
                    .with_after(after)
                    .with_share_qk(share_qk),
            )
        },
    );
    prop_oneof![4 => lsh(), 1 => local, 1 => Just(Kind::Full)]
}

fn layer<B: ReformerBackend>(kind: Kind, causal: bool) -> Attention<B> {
    let device = Default::default();
    let heads = HeadsConfig::new(D_MODEL, 2)
        .with_causal(causal)
        .with_dropout(0.1)
        .with_rotary_base(Some(10_000.0));
    match kind {
        Kind::Lsh(lsh) => Attention::Lsh(LshAttentionConfig::new(heads, lsh).init(&device)),
        Kind::Local(local) => {
            Attention::Local(LocalAttentionConfig::new(heads, local).init(&device))
        }
        Kind::Full => Attention::Full(FullAttentionConfig::new(heads).init(&device)),
    }
}

fn check_any_length<B: ReformerBackend>(kind: Kind, causal: bool, batch: usize, length: usize) {
    let layer = layer::<B>(kind, causal);
    let x = normal::<B, 3>(1, [batch, length, D_MODEL]);
    for pass in [Pass::eval(), Pass::train(Key::new(2))] {
        let output = layer.forward(x.clone(), &pass).output;
        assert_eq!(output.dims(), [batch, length, D_MODEL]);
        assert!(numbers(output).iter().all(|x| x.is_finite()));
    }
}

/// The same tokens, alone and in front of padding with anything in it.
fn check_padding<B: ReformerBackend>(kind: Kind, causal: bool, length: usize, padding: usize) {
    // An automatic number of buckets, and the choice of exact attention, go by the padded length.
    let kind = match kind {
        Kind::Lsh(lsh) if matches!(lsh.n_buckets, Buckets::Auto) => {
            Kind::Lsh(lsh.with_n_buckets(Buckets::Count(8)))
        }
        kind => kind,
    };
    let kind = match kind {
        Kind::Lsh(lsh) => Kind::Lsh(lsh.with_exact_up_to(ExactUpTo::Never)),
        kind => kind,
    };
    let layer = layer::<B>(kind, causal);
    let x = normal::<B, 3>(1, [2, length, D_MODEL]);
    let alone = numbers(layer.forward(x.clone(), &Pass::eval()).output);
    for seed in [5, 6] {
        let anything = normal::<B, 3>(seed, [2, padding, D_MODEL]) * 10;
        let padded = Tensor::cat(vec![x.clone(), anything], 1);
        let pass = Pass::eval().with_mask_pad(Some(mask(length, padding)));
        let output = layer.forward(padded, &pass).output;
        let real = numbers(output.slice_dim(1, 0..length));
        assert_close("real positions", &real, &alone, 2e-5);
    }
}

fn mask<B: Backend>(length: usize, padding: usize) -> Tensor<B, 2, Bool> {
    Tensor::<B, 1, Int>::arange(0..(length + padding) as i64, &Default::default())
        .greater_equal_elem(length as i64)
        .reshape([1, length + padding])
        .expand([2, length + padding])
}

/// Trained with hashing, evaluated exactly: the same weights in another attention.
fn weights_serve_any_attention<B: ReformerBackend>() {
    let device = Default::default();
    let exact = |kind, exact_up_to| {
        let lsh = LshConfig::new().with_exact_up_to(exact_up_to);
        ReformerConfig::new(13, D_MODEL, 2)
            .with_n_heads(2)
            .with_layers(vec![kind])
            .with_lsh(lsh)
    };
    let hashed = exact(AttentionKind::Lsh, ExactUpTo::Never);
    let exactly = exact(AttentionKind::Lsh, ExactUpTo::Length(1000));
    let full = exact(AttentionKind::Full, ExactUpTo::Never);
    let model = drawn(hashed.init::<B>(&device));
    let tokens = integers::<B, 2>(1, [2, 300], 13);
    let hidden = |config: &ReformerConfig| {
        let model = model.clone().with_attention(config, &device).unwrap();
        numbers(model.forward(tokens.clone(), &Pass::eval()))
    };
    let own = numbers(model.forward(tokens.clone(), &Pass::eval()));
    assert!(hidden(&hashed) == own, "the same attention changes nothing");
    assert!(hidden(&full) == hidden(&exactly), "exact is exact");
    assert!(hidden(&full) != own, "hashing is not exact");
    for config in [
        full.clone().with_full_share_qk(false),
        hashed.clone().with_n_heads(3),
    ] {
        let error = model.clone().with_attention(&config, &device).unwrap_err();
        assert!(error.to_string().contains("other projections"), "{error}");
    }
}

crate::on_cpu_backends!(weights_serve_any_attention);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_length_on_flex(kind in kind(), causal: bool, batch in 1..4usize, length in 1..300usize) {
        check_any_length::<burn_flex::Flex>(kind, causal, batch, length);
    }

    #[test]
    fn any_length_on_ndarray(
        kind in kind(), causal: bool, batch in 1..4usize, length in 1..300usize
    ) {
        check_any_length::<burn_ndarray::NdArray>(kind, causal, batch, length);
    }

    #[test]
    fn padding_changes_nothing_on_flex(
        kind in kind(), causal: bool, length in 1..150usize, padding in 1..80usize
    ) {
        check_padding::<burn_flex::Flex>(kind, causal, length, padding);
    }

    #[test]
    fn padding_changes_nothing_on_ndarray(
        kind in kind(), causal: bool, length in 1..150usize, padding in 1..80usize
    ) {
        check_padding::<burn_ndarray::NdArray>(kind, causal, length, padding);
    }
}
