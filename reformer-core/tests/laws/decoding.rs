//! Whether reading one token after another gives what reading all of them at once gives.

use crate::common::{alone, drawn, integers, numbers, relative_error};
use burn::tensor::{DType, Int, Tensor, TensorData};
use reformer_core::attention::{AttentionKind, Buckets, ExactUpTo, LocalConfig, LshConfig, Window};
use reformer_core::generation::{DecodingConfig, LmDecoder, Logits, StepDecoder};
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::{ReformerConfig, ReformerLm, ReformerLmConfig};
use reformer_core::position::PositionConfig;
use reformer_core::reversible::Mode;
use reformer_core::{Pass, Precision};

const VOCABULARY: u32 = 11;

fn config() -> ReformerConfig {
    ReformerConfig::new(VOCABULARY as usize, 24, 4)
        .with_n_heads(2)
        .with_layers(vec![
            AttentionKind::Lsh,
            AttentionKind::Local,
            AttentionKind::Full,
            AttentionKind::Lsh,
        ])
        .with_lsh(LshConfig::new().with_window(Window::Bucket { len: 12 }))
        .with_local(LocalConfig::new().with_chunk_length(10))
}

fn model<B: ReformerBackend>(config: &ReformerConfig) -> ReformerLm<B> {
    drawn(ReformerLmConfig::new(config.clone()).init(&Default::default()))
}

fn random_tokens(seed: u64, n: usize) -> Vec<u32> {
    let tokens = integers::<burn_flex::Flex, 1>(seed, [n], VOCABULARY).into_data();
    tokens.iter::<u32>().collect()
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

/// Logits of every position, read at once.
fn at_once<B: ReformerBackend>(
    model: &ReformerLm<B>,
    tokens: &[u32],
    context: usize,
) -> Vec<Vec<u32>> {
    let tokens: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
    let shape = [1, tokens.len()];
    let tokens =
        Tensor::<B, 2, Int>::from_data(TensorData::new(tokens, shape), &Default::default());
    let logits = model.forward(tokens, &Pass::eval().with_context(Some(context)));
    let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
    logits.chunks(VOCABULARY as usize).map(bits).collect()
}

/// Logits from the end of a prompt on, one token after another.
fn one_by_one<B: ReformerBackend>(
    model: &ReformerLm<B>,
    tokens: &[u32],
    prompt: usize,
    context: usize,
) -> Vec<Vec<u32>> {
    let config = DecodingConfig::new(context);
    let prompts = [tokens[..prompt].to_vec()];
    let (mut decoder, first) = LmDecoder::prefill(model, &prompts, &config).unwrap();
    let mut all = vec![bits(first.row(0))];
    for &token in &tokens[prompt..] {
        all.push(bits(decoder.step(&[token]).unwrap().row(0)));
    }
    all
}

#[track_caller]
fn check<B: ReformerBackend>(config: &ReformerConfig, length: usize, prompts: &[usize]) {
    let model = model::<B>(config);
    let tokens = random_tokens(3, length);
    let expected = at_once(&model, &tokens, length);
    for &prompt in prompts {
        let found = one_by_one(&model, &tokens, prompt, length);
        let differs = (0..found.len()).find(|&at| found[at] != expected[prompt - 1 + at]);
        assert_eq!(differs, None, "after a prompt of {prompt}: {config:?}");
    }
}

fn decoding_gives_the_bits_of_reading_at_once<B: ReformerBackend>() {
    check::<B>(&config(), 2000, &[37]);
}

/// Where the processor multiplies pairs of `bf16`, the kernels are the same.
#[test]
#[cfg(target_arch = "x86_64")]
fn decoding_in_bf16_gives_the_bits_too() {
    if !is_x86_feature_detected!("avx512bf16") {
        eprintln!("SKIPPED: this processor does not multiply pairs of bf16");
        return;
    }
    let config = config().with_precision(Precision::Bf16);
    check::<burn_flex::Flex>(&config, 600, &[37, 101]);
}

fn decoding_gives_the_bits_in_every_setting<B: ReformerBackend>() {
    let lsh = |len, n_rounds| {
        config()
            .lsh
            .with_window(Window::Bucket { len })
            .with_n_rounds(n_rounds)
    };
    let position = |position| config().with_position(position);
    let chunked = LocalConfig::new()
        .with_before(2)
        .with_chunk_length(7)
        .with_share_qk(true);
    for config in [
        config(),
        config().with_lsh(lsh(3, 1)),
        config().with_lsh(lsh(5, 5).with_n_buckets(Buckets::Count(6))),
        config().with_lsh(lsh(4, 3).with_n_buckets(Buckets::Factors(vec![4, 6]))),
        config().with_lsh(lsh(40, 2).with_exact_up_to(ExactUpTo::Never)),
        config().with_lsh(lsh(40, 2).with_exact_up_to(ExactUpTo::Length(500))),
        config().with_local(chunked).with_full_share_qk(false),
        config().with_query_length(Some(3.0)),
        config()
            .with_mode(Mode::Exact { fraction_bits: 16 })
            .with_gated(true),
        config().with_d_ff(Some(600)).with_ff_chunk_length(Some(30)),
        position(PositionConfig::None),
        position(PositionConfig::Sinusoidal),
        position(PositionConfig::Learned {
            max_length: 200,
            std: 1.0,
            sinusoidal: false,
        }),
        position(PositionConfig::Axial {
            shape: vec![10, 20],
            dims: vec![8, 16],
            std: 1.0,
        }),
    ] {
        check::<B>(&config, 170, &[1, 20, 141]);
    }
}

fn beginning_is_the_same_in_the_same_context<B: ReformerBackend>() {
    let model = model::<B>(&config());
    let tokens = random_tokens(4, 700);
    let whole = at_once(&model, &tokens, 700);
    for length in [1, 30, 500] {
        let beginning = at_once(&model, &tokens[..length], 700);
        assert_eq!(beginning, whole[..length], "{length} tokens");
    }
}

/// Logits of several steps.
fn follow<B: ReformerBackend>(
    decoder: &mut LmDecoder<B>,
    first: Logits,
    tokens: &[Vec<u32>],
) -> Vec<Vec<Vec<u32>>> {
    let rows = |logits: Logits| logits.rows().map(bits).collect::<Vec<_>>();
    let mut all = vec![rows(first)];
    for at in 0..tokens[0].len() {
        let next: Vec<u32> = tokens.iter().map(|tokens| tokens[at]).collect();
        all.push(rows(decoder.step(&next).unwrap()));
    }
    all
}

fn ragged_batch_gives_the_bits_of_each_alone<B: ReformerBackend>() {
    let hashed_in_chunks = config()
        .lsh
        .with_chunk_length(8)
        .with_window(Window::Chunk {
            before: 1,
            after: 0,
            within_bucket: false,
        });
    for config in [config(), config().with_lsh(hashed_in_chunks)] {
        let model = model::<B>(&config);
        let decoding = DecodingConfig::new(300).with_max_length(Some(200));
        let prompts = [1, 40, 7, 133].map(|n| random_tokens(n as u64, n));
        let next: Vec<Vec<u32>> = (0..4).map(|row| random_tokens(50 + row, 60)).collect();
        let (mut decoder, first) = LmDecoder::prefill(&model, &prompts, &decoding).unwrap();
        let together = follow(&mut decoder, first, &next);
        assert_eq!(decoder.lengths(), [61, 100, 67, 193]);
        for row in 0..4 {
            let alone = &prompts[row..row + 1];
            let (mut decoder, first) = LmDecoder::prefill(&model, alone, &decoding).unwrap();
            let alone = follow(&mut decoder, first, &next[row..row + 1]);
            for (at, (together, alone)) in together.iter().zip(&alone).enumerate() {
                assert_eq!(together[row], alone[0], "prompt {row}, token {at}");
            }
        }
    }
}

fn selected_rows_go_on_as_if_alone<B: ReformerBackend>() {
    let model = model::<B>(&config());
    let decoding = DecodingConfig::new(300);
    let prompts = [20, 33].map(|n| random_tokens(n as u64, n));
    let (mut decoder, _) = LmDecoder::prefill(&model, &prompts, &decoding).unwrap();
    decoder.step(&[1, 2]).unwrap();
    decoder.select(&[1, 0, 1]).unwrap();
    let next: Vec<Vec<u32>> = (0..3).map(|row| random_tokens(70 + row, 9)).collect();
    let first = decoder.step(&[3, 4, 5]).unwrap();
    let found = follow(&mut decoder, first, &next);
    for (row, (prompt, between)) in [(1, [2, 3]), (0, [1, 4]), (1, [2, 5])]
        .into_iter()
        .enumerate()
    {
        let prompt = [&prompts[prompt][..], &between].concat();
        let (mut decoder, first) = LmDecoder::prefill(&model, &[prompt], &decoding).unwrap();
        let alone = follow(&mut decoder, first, &next[row..row + 1]);
        for (found, alone) in found.iter().zip(&alone) {
            assert_eq!(found[row], alone[0], "row {row}");
        }
    }
}

/// Without our own kernels (here in `f64`, which they do not serve) matrix products of one row may
/// be added up in another order than those of many.
#[test]
fn decoding_by_the_reference_differs_by_rounding() {
    alone("decoding::in_f64");
}

#[test]
#[ignore = "needs a process of its own"]
fn in_f64() {
    type B = burn_ndarray::NdArray<f64>;
    let model = model::<B>(&config());
    let tokens = random_tokens(5, 200);
    let config = DecodingConfig::new(200);
    let prompts = [tokens[..50].to_vec()];
    let (mut decoder, first) = LmDecoder::prefill(&model, &prompts, &config).unwrap();
    let mut found: Vec<f64> = first.row(0).iter().copied().map(f64::from).collect();
    for &token in &tokens[50..] {
        let logits = decoder.step(&[token]).unwrap();
        found.extend(logits.row(0).iter().copied().map(f64::from));
    }
    let tokens: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
    let tokens =
        Tensor::<B, 2, Int>::from_data(TensorData::new(tokens, [1, 200]), &Default::default());
    let expected = model.forward(tokens, &Pass::eval()).slice_dim(1, 49..200);
    assert_eq!(expected.dtype(), DType::F64);
    // Logits are handed out in `f32`.
    let error = relative_error(&found, &numbers(expected));
    println!("decoding by the reference, f64: relative error {error:.1e}");
    assert!(error < 1e-7, "{error}");
}

crate::on_cpu_backends!(
    decoding_gives_the_bits_of_reading_at_once,
    decoding_gives_the_bits_in_every_setting,
    beginning_is_the_same_in_the_same_context,
    ragged_batch_gives_the_bits_of_each_alone,
    selected_rows_go_on_as_if_alone,
);
