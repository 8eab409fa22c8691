//! Benchmarks of single attention kernels: `cargo bench -p reformer-core`.
//!
//! Throughput is in floating-point operations of the matrix products (4 forward and 10 backward for
//! each query, key and feature), so `Gelem/s` means GFLOP/s: to be compared with `large_product`. Select
//! benchmarks with a filter:
//! `cargo bench -p reformer-core -- 'rounds/forward/4'`.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Distribution, Tensor};
use burn_flex::Flex;
use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use reformer_core::Key;
use reformer_core::attention::{hash, rotations};
use reformer_core::kernels::{
    Duplicates, KeyRule, Keys, Masking, Qkv, ReformerBackend, SlotLayout, Slots, TileShape,
    TiledAttention, reference,
};

type B = Flex;

const HEADS: usize = 4;
const LENGTH: usize = 4096;
/// Shorter, as the reference takes seconds at the length of a model.
const REFERENCE_LENGTH: usize = 1024;

fn qkv(seq_length: usize, d_head: usize, dtype: DType) -> Qkv<B> {
    let device = Default::default();
    B::seed(&device, 1);
    let random = || {
        let distribution = Distribution::Normal(0.0, 1.0);
        let shape = [1, HEADS, seq_length, d_head];
        Tensor::<B, 4>::random(shape, distribution, &device).cast(dtype)
    };
    Qkv {
        q: random(),
        keys: Keys::UnitQueries(1.0),
        v: random(),
    }
}

/// LSH attention with chunks of `length`, each of which also sees the previous one.
struct Lsh {
    qkv: Qkv<B>,
    slots: Slots<B>,
    rules: TiledAttention,
    /// Number of query-key pairs, times features.
    work: usize,
}

impl Lsh {
    fn new(seq_length: usize, d_head: usize, length: usize, n_rounds: usize) -> Self {
        Self::new_in(DType::F32, seq_length, d_head, length, n_rounds)
    }

    fn new_in(
        dtype: DType,
        seq_length: usize,
        d_head: usize,
        length: usize,
        n_rounds: usize,
    ) -> Self {
        let qkv = qkv(seq_length, d_head, dtype);
        let factors = [2 * seq_length / length];
        let device = Default::default();
        let rotations = rotations::<B>(Key::new(2), HEADS, d_head, n_rounds, &factors, &device);
        let buckets = hash(qkv.q.clone(), rotations, &factors);
        Self {
            slots: B::bucket_sort(buckets, factors[0], SlotLayout::Dense(length)),
            rules: TiledAttention {
                tile: TileShape {
                    length,
                    before: 1,
                    after: 0,
                    wrap: false,
                },
                keys: KeyRule::Across,
                duplicates: Duplicates::Exact,
                causal: true,
                exclude_self: true,
                dropout: None,
            },
            work: HEADS * seq_length * n_rounds * 2 * length * d_head,
            qkv,
        }
    }

    fn bench(&self, group: &mut BenchmarkGroup<WallTime>, name: &str, value: usize) {
        let Self {
            qkv, slots, rules, ..
        } = self;
        let output = B::tiled_attention(qkv.clone(), slots, rules);
        group.throughput(Throughput::Elements(4 * self.work as u64));
        group.bench_function(BenchmarkId::new(format!("{name}/forward"), value), |b| {
            b.iter(|| B::tiled_attention(qkv.clone(), slots, rules));
        });
        group.throughput(Throughput::Elements(10 * self.work as u64));
        group.bench_function(BenchmarkId::new(format!("{name}/backward"), value), |b| {
            b.iter(|| {
                let (output, grad) = (output.clone(), qkv.v.clone());
                B::tiled_attention_backward(qkv.clone(), slots, rules, output, grad)
            });
        });
    }

    fn bench_reference(&self, group: &mut BenchmarkGroup<WallTime>) {
        let Self {
            qkv, slots, rules, ..
        } = self;
        let output = reference::tiled_attention(qkv.clone(), slots, rules);
        group.throughput(Throughput::Elements(4 * self.work as u64));
        group.bench_function("reference/forward", |b| {
            b.iter(|| reference::tiled_attention(qkv.clone(), slots, rules));
        });
        group.throughput(Throughput::Elements(10 * self.work as u64));
        group.bench_function("reference/backward", |b| {
            b.iter(|| {
                let (output, grad) = (output.clone(), qkv.v.clone());
                reference::tiled_attention_backward(qkv.clone(), slots, rules, output, grad)
            });
        });
    }
}

fn lsh(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lsh");
    group.sample_size(10);
    for length in [32, 64, 128] {
        Lsh::new(LENGTH, 64, length, 4).bench(&mut group, "chunk", length);
    }
    for d_head in [32, 64, 128] {
        Lsh::new(LENGTH, d_head, 64, 4).bench(&mut group, "d_head", d_head);
    }
    for n_rounds in 1..=8 {
        Lsh::new(LENGTH, 64, 64, n_rounds).bench(&mut group, "rounds", n_rounds);
    }
    for d_head in [32, 64, 128] {
        Lsh::new_in(DType::BF16, LENGTH, d_head, 64, 4).bench(&mut group, "bf16", d_head);
    }
    let short = Lsh::new(REFERENCE_LENGTH, 64, 64, 4);
    short.bench(&mut group, "short", REFERENCE_LENGTH);
    short.bench_reference(&mut group);
    group.finish();
}

fn full(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("full");
    group.sample_size(10);
    let qkv = qkv(REFERENCE_LENGTH, 64, DType::F32);
    let masking = Masking {
        causal: true,
        exclude_self: true,
        dropout: None,
        mask_pad: None,
    };
    let work = HEADS * REFERENCE_LENGTH * REFERENCE_LENGTH / 2 * 64;
    group.throughput(Throughput::Elements(4 * work as u64));
    group.bench_function("forward", |b| {
        b.iter(|| B::full_attention(qkv.clone(), &masking));
    });
    group.bench_function("reference/forward", |b| {
        b.iter(|| reference::full_attention(qkv.clone(), &masking));
    });
    let output = B::full_attention(qkv.clone(), &masking);
    group.throughput(Throughput::Elements(10 * work as u64));
    group.bench_function("backward", |b| {
        b.iter(|| {
            let (output, grad) = (output.clone(), qkv.v.clone());
            B::full_attention_backward(qkv.clone(), &masking, output, grad)
        });
    });
    group.finish();
}

fn hashing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hashing");
    group.sample_size(10);
    let q = qkv(LENGTH, 64, DType::F32).q;
    let factors = [128];
    let rotations = rotations::<B>(Key::new(2), HEADS, 64, 4, &factors, &q.device());
    group.throughput(Throughput::Elements(
        (HEADS * LENGTH * 64 * 64 * 4 * 2) as u64,
    ));
    group.bench_function("hash", |b| {
        b.iter(|| hash(q.clone(), rotations.clone(), &factors));
    });
    let buckets = hash(q.clone(), rotations.clone(), &factors);
    group.throughput(Throughput::Elements((HEADS * LENGTH * 4) as u64));
    group.bench_function("bucket_sort", |b| {
        b.iter(|| B::bucket_sort(buckets.clone(), 128, SlotLayout::Dense(64)));
    });
    group.finish();
}

/// The rate that the others are compared with.
fn large_product(criterion: &mut Criterion) {
    const SIZE: usize = 1024;
    let mut group = criterion.benchmark_group("large_product");
    group.sample_size(10);
    group.throughput(Throughput::Elements(2 * (SIZE as u64).pow(3)));
    let matrix = || {
        let distribution = Distribution::Normal(0.0, 1.0);
        Tensor::<B, 2>::random([SIZE, SIZE], distribution, &Default::default())
    };
    let (a, b) = (matrix(), matrix());
    group.bench_function("f32", |bencher| {
        bencher.iter(|| a.clone().matmul(b.clone()));
    });
    let x = a.clone().cast(DType::BF16).unsqueeze::<3>();
    group.bench_function("linear_layer/bf16", |bencher| {
        bencher.iter(|| B::linear_layer(x.clone(), b.clone(), None));
    });
    group.finish();
}

criterion_group!(kernels, large_product, lsh, full, hashing);
criterion_main!(kernels);
