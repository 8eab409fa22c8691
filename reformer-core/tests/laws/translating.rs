//! Whether a decoder with caches gives what reading whole targets beside their sources gives.

use crate::common::{alone, drawn, integers, numbers, relative_error};
use burn::tensor::{Bool, DType, Int, Tensor, TensorData};
use reformer_core::attention::{AttentionKind, Buckets, LocalConfig, LshConfig, Window};
use reformer_core::generation::{
    BeamConfig, DecodingConfig, Hypothesis, Seq2SeqDecoder, StepDecoder, translate,
};
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::{CrossKind, ReformerConfig, ReformerSeq2Seq, ReformerSeq2SeqConfig};
use reformer_core::position::PositionConfig;
use reformer_core::reversible::Mode;
use reformer_core::{Pass, Precision, Source};

const VOCABULARY: u32 = 11;
const CROSS: [CrossKind; 2] = [CrossKind::Full, CrossKind::Concatenated];
/// Longest first: several slices of keys, of which some are padding in other rows.
const SOURCES: [usize; 4] = [300, 1, 140, 17];

fn config(cross: CrossKind) -> ReformerSeq2SeqConfig {
    let reformer = ReformerConfig::new(VOCABULARY as usize, 24, 4)
        .with_n_heads(2)
        .with_embedding_std(1.0)
        .with_position(PositionConfig::Sinusoidal)
        .with_layers(vec![
            AttentionKind::Lsh,
            AttentionKind::Local,
            AttentionKind::Full,
            AttentionKind::Lsh,
        ])
        .with_lsh(LshConfig::new().with_window(Window::Bucket { len: 12 }))
        .with_local(LocalConfig::new().with_chunk_length(10));
    ReformerSeq2SeqConfig::new(reformer)
        .with_cross(cross)
        .with_n_encoder_layers(Some(2))
}

fn model<B: ReformerBackend>(config: &ReformerSeq2SeqConfig) -> ReformerSeq2Seq<B> {
    drawn(config.init(&Default::default()))
}

fn random_tokens(seed: u64, n: usize) -> Vec<u32> {
    let tokens = integers::<burn_flex::Flex, 1>(seed, [n], VOCABULARY).into_data();
    tokens.iter::<u32>().collect()
}

fn sources() -> Vec<Vec<u32>> {
    let source = |(seed, n)| random_tokens(seed, n);
    (90..).zip(SOURCES).map(source).collect()
}

fn targets(n: usize, length: usize) -> Vec<Vec<u32>> {
    (0..n as u64)
        .map(|row| random_tokens(row, length))
        .collect()
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

fn tensor<B: ReformerBackend>(rows: &[Vec<u32>], length: usize) -> Tensor<B, 2, Int> {
    let padded = rows.iter().flat_map(|row| {
        let row = row.iter().map(|&token| token as i32);
        row.chain(std::iter::repeat(0)).take(length)
    });
    let data = TensorData::new(padded.collect::<Vec<i32>>(), [rows.len(), length]);
    Tensor::from_data(data, &Default::default())
}

fn encoded<B: ReformerBackend>(model: &ReformerSeq2Seq<B>, sources: &[Vec<u32>]) -> Source<B> {
    let length = sources.iter().map(Vec::len).max().unwrap();
    let is_padding = sources
        .iter()
        .flat_map(|row| (0..length).map(|place| place >= row.len()));
    let mask = TensorData::new(is_padding.collect::<Vec<bool>>(), [sources.len(), length]);
    let mask = Tensor::<B, 2, Bool>::from_data(mask, &Default::default());
    model.encode(tensor(sources, length), Some(mask), &Pass::eval())
}

/// Logits of every position of the targets, row by row, read at once.
fn at_once<B: ReformerBackend>(
    model: &ReformerSeq2Seq<B>,
    sources: &[Vec<u32>],
    targets: &[Vec<u32>],
) -> Tensor<B, 3> {
    let inputs = tensor(targets, targets[0].len());
    model.decode(encoded(model, sources), inputs, None, &Pass::eval())
}

/// The same, one token after another: `[position][row]`.
fn one_by_one<B: ReformerBackend>(
    model: &ReformerSeq2Seq<B>,
    sources: &[Vec<u32>],
    targets: &[Vec<u32>],
) -> Vec<Vec<Vec<f32>>> {
    let length = targets[0].len();
    let config = DecodingConfig::new(length);
    let mut decoder = Seq2SeqDecoder::new(model, sources, &config).unwrap();
    let step = |at: usize| {
        let next: Vec<u32> = targets.iter().map(|target| target[at]).collect();
        let logits = decoder.step(&next).unwrap();
        logits.rows().map(<[f32]>::to_vec).collect()
    };
    (0..length).map(step).collect()
}

#[track_caller]
fn check<B: ReformerBackend>(config: &ReformerSeq2SeqConfig, sources: &[Vec<u32>], length: usize) {
    let model = model::<B>(config);
    let targets = targets(sources.len(), length);
    let expected = at_once(&model, sources, &targets).into_data();
    let expected: Vec<f32> = expected.iter::<f32>().collect();
    let expected: Vec<&[f32]> = expected.chunks(VOCABULARY as usize).collect();
    let found = one_by_one(&model, sources, &targets);
    for (at, rows) in found.iter().enumerate() {
        for (row, logits) in rows.iter().enumerate() {
            let expected = bits(expected[row * length + at]);
            assert_eq!(
                bits(logits),
                expected,
                "row {row}, position {at}: {config:?}"
            );
        }
    }
}

fn decoding_gives_the_bits_of_reading_at_once<B: ReformerBackend>() {
    for cross in CROSS {
        check::<B>(&config(cross), &sources(), 150);
    }
}

fn decoding_gives_the_bits_in_every_setting<B: ReformerBackend>() {
    let sources = [random_tokens(1, 40), random_tokens(2, 25)];
    let learned = PositionConfig::Learned {
        max_length: 60,
        std: 1.0,
        sinusoidal: false,
    };
    for cross in CROSS {
        let changed = |change: fn(ReformerConfig) -> ReformerConfig| {
            let config = config(cross);
            ReformerSeq2SeqConfig {
                reformer: change(config.reformer.clone()),
                ..config
            }
        };
        let mut configs = vec![
            config(cross).with_tie_output(false).with_output_bias(false),
            changed(|it| it.with_mode(Mode::Exact { fraction_bits: 16 })),
            changed(|it| it.with_mode(Mode::Ordinary)),
            changed(|it| it.with_ff_chunk_length(Some(7)).with_gated(true)),
            changed(|it| it.with_full_share_qk(false)),
            changed(|it| {
                let lsh = it.lsh.clone().with_n_rounds(5);
                it.with_lsh(lsh.with_n_buckets(Buckets::Factors(vec![4, 6])))
            }),
            // Exact at this length.
            changed(|it| it.with_lsh(LshConfig::new())),
        ];
        configs.push(ReformerSeq2SeqConfig {
            reformer: config(cross).reformer.with_position(learned.clone()),
            ..config(cross)
        });
        if cross == CrossKind::Full {
            configs.push(changed(|it| {
                it.with_position(PositionConfig::Rotary { base: 10_000.0 })
            }));
        }
        for config in configs {
            check::<B>(&config, &sources, 45);
        }
    }
}

/// What a position sees of chunks of a sorted prefix is not what it sees of those of the whole; the
/// last position sees the same.
fn chunks_are_those_of_the_prefix<B: ReformerBackend>() {
    let lsh = LshConfig::new()
        .with_chunk_length(8)
        .with_n_buckets(Buckets::Count(4))
        .with_window(Window::Chunk {
            before: 1,
            after: 0,
            within_bucket: false,
        });
    for cross in CROSS {
        let mut config = config(cross);
        // Above the first block, hidden states of earlier positions differ too.
        config.reformer.n_layers = 1;
        config.reformer.layers = vec![AttentionKind::Lsh];
        config.reformer.lsh = lsh.clone();
        let model = model::<B>(&config);
        let (sources, targets) = ([random_tokens(1, 70)], targets(1, 50));
        let found = one_by_one(&model, &sources, &targets);
        for length in [1, 9, 30, 50] {
            let prefix = [targets[0][..length].to_vec()];
            let last = at_once(&model, &sources, &prefix).slice_dim(1, length - 1..length);
            let found: Vec<f64> = found[length - 1][0].iter().map(|&x| f64::from(x)).collect();
            let error = relative_error(&found, &numbers(last));
            assert!(error < 1e-5, "{cross:?} at {length}: {error}");
        }
    }
}

fn selected_rows_go_on_as_if_alone<B: ReformerBackend>() {
    for cross in CROSS {
        let model = model::<B>(&config(cross));
        let (sources, length) = (sources(), 40);
        let decoding = DecodingConfig::new(length);
        let mut decoder = Seq2SeqDecoder::new(&model, &sources, &decoding).unwrap();
        decoder.step(&[1, 2, 3, 4]).unwrap();
        // Rows of one source change places, then some end and others split.
        let mut rows = vec![(0, vec![1]), (1, vec![2]), (2, vec![3]), (3, vec![4])];
        for (seed, selected) in [vec![2, 2, 0, 3], vec![1, 0, 3, 2, 2], vec![1, 0, 2, 4, 3]]
            .into_iter()
            .enumerate()
        {
            decoder.select(&selected).unwrap();
            let next = random_tokens(seed as u64, selected.len());
            rows = selected.iter().map(|&row| rows[row].clone()).collect();
            for ((_, target), token) in rows.iter_mut().zip(&next) {
                target.push(*token);
            }
            let found = decoder.step(&next).unwrap();
            for (row, (source, target)) in rows.iter().enumerate() {
                // In the batch that its source was encoded in.
                let mut same = Seq2SeqDecoder::new(&model, &sources, &decoding).unwrap();
                let expected = target.iter().map(|&token| same.step(&[token; 4]).unwrap());
                let expected = expected.last().unwrap();
                assert_eq!(
                    bits(found.row(row)),
                    bits(expected.row(*source)),
                    "{cross:?}"
                );
            }
        }
    }
}

/// Every hypothesis of a beam has the logits, and so the probability, of its own tokens.
fn beam_carries_caches_along<B: ReformerBackend>() {
    for cross in CROSS {
        let model = model::<B>(&config(cross));
        let sources = &sources()[1..];
        let (begin, length) = (1, 20);
        let beam = BeamConfig::new().with_end(Some(2)).with_beam_size(5);
        let decoding = DecodingConfig::new(length);
        let mut decoder = Seq2SeqDecoder::new(&model, sources, &decoding).unwrap();
        let found = translate(&mut decoder, begin, &[length; 3], &beam).unwrap();
        for (row, hypotheses) in found.iter().enumerate() {
            assert_eq!(hypotheses.len(), 5);
            for Hypothesis {
                tokens,
                log_prob,
                is_ended,
                ..
            } in hypotheses
            {
                let mut same = Seq2SeqDecoder::new(&model, sources, &decoding).unwrap();
                let end = is_ended.then_some(2);
                let mut expected = 0.0;
                let mut read = begin;
                for next in tokens.iter().copied().chain(end) {
                    let logits = same.step(&[read; 3]).unwrap();
                    expected += log_softmax(logits.row(row), next);
                    read = next;
                }
                let difference = (log_prob - expected).abs();
                assert!(difference < 1e-9, "{cross:?}, source {row}: {difference}");
            }
        }
    }
}

fn log_softmax(logits: &[f32], token: u32) -> f64 {
    let exp = |&logit: &f32| f64::from(logit).exp();
    (exp(&logits[token as usize]) / logits.iter().map(exp).sum::<f64>()).ln()
}

/// Without our own kernels (here in `f64`, which they do not serve) sums are added up in other orders.
#[test]
fn translating_by_the_reference_differs_by_rounding() {
    alone("translating::in_f64");
}

#[test]
#[ignore = "needs a process of its own"]
fn in_f64() {
    check_difference::<burn_ndarray::NdArray<f64>>(DType::F64, Precision::Full, 1e-7);
}

/// In half precision numbers are rounded in other places, if at all.
#[test]
fn translating_in_half_precision_differs_by_rounding() {
    check_difference::<burn_flex::Flex>(DType::F32, Precision::Bf16, 0.05);
}

fn check_difference<B: ReformerBackend>(dtype: DType, precision: Precision, most: f64) {
    let sources = [random_tokens(1, 150), random_tokens(2, 60)];
    let targets = targets(2, 60);
    for cross in CROSS {
        let mut config = config(cross);
        config.reformer = config.reformer.with_precision(precision);
        let model = model::<B>(&config);
        let expected = at_once(&model, &sources, &targets);
        assert_eq!(expected.dtype(), dtype);
        let found = one_by_one(&model, &sources, &targets);
        let by_row = (0..sources.len()).flat_map(|row| found.iter().map(move |rows| &rows[row]));
        let found: Vec<f64> = by_row.flatten().map(|&x| f64::from(x)).collect();
        let error = relative_error(&found, &numbers(expected));
        println!("{cross:?}, {dtype:?}, {precision:?}: relative error {error:.1e}");
        assert!(error < most, "{cross:?}: {error}");
    }
}

crate::on_cpu_backends!(
    decoding_gives_the_bits_of_reading_at_once,
    decoding_gives_the_bits_in_every_setting,
    chunks_are_those_of_the_prefix,
    selected_rows_go_on_as_if_alone,
    beam_carries_caches_along,
);
