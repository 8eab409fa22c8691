//! The host does not wait for the device before it wants to know something.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{integers, normal};
use crate::model::{Device, SHAPE, VOCABULARY, config};
use crate::{Gpu, adapter_alone};
use burn::grad_clipping::GradientClippingConfig;
use burn::optim::{AdamConfig, Optimizer};
use burn::tensor::Tensor;
use log::{LevelFilter, Log, Metadata, Record};
use reformer_core::attention::AttentionKind;
use reformer_core::kernels::{
    Duplicates, KeyRule, Keys, Masking, Qkv, ReformerBackend, SlotLayout, TileShape, TiledAttention,
};
use reformer_core::model::{ReformerLm, Trainable};
use reformer_core::{Key, Pass};

/// Counts how often wgpu maps a buffer for the host: the only way to read one.
struct Reads(AtomicUsize);

static READS: Reads = Reads(AtomicUsize::new(0));

impl Reads {
    /// How many there are while something is done. The adapter must be one's own.
    fn during(&self, work: impl FnOnce()) -> usize {
        // The other test may have set it.
        let _ = log::set_logger(&READS);
        self.0.store(0, Ordering::SeqCst);
        log::set_max_level(LevelFilter::Trace);
        work();
        log::set_max_level(LevelFilter::Off);
        self.0.load(Ordering::SeqCst)
    }
}

impl Log for Reads {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.target().starts_with("wgpu_core")
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) && record.args().to_string().contains("map_async") {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn flush(&self) {}
}

/// Between hashing and the last gradient.
#[test]
fn attention_reads_nothing_back() {
    let Some(_adapter) = adapter_alone() else {
        return;
    };
    let shape = [1, 2, 200, 32];
    let qkv = Qkv {
        q: normal::<Gpu, 4>(1, shape),
        keys: Keys::UnitQueries(1.0),
        v: normal(2, shape),
    };
    let rotations = normal(3, [2, 32, 2, 4]);
    let grad: Tensor<Gpu, 4> = normal(4, shape);
    let mut gradients = Vec::new();
    let reads = READS.during(|| {
        let buckets = Gpu::hash(qkv.q.clone(), rotations, &[8]);
        let slots = Gpu::bucket_sort(buckets, 9, SlotLayout::BucketAligned(16));
        let rules = TiledAttention {
            tile: TileShape {
                length: 16,
                before: 2,
                after: 0,
                wrap: false,
            },
            keys: KeyRule::Band(32),
            duplicates: Duplicates::Exact,
            causal: true,
            exclude_self: true,
            dropout: Some((0.1, Key::new(1))),
        };
        let attended = Gpu::tiled_attention(qkv.clone(), &slots, &rules);
        let of_hashed =
            Gpu::tiled_attention_backward(qkv.clone(), &slots, &rules, attended, grad.clone());
        let masking = Masking {
            causal: true,
            exclude_self: true,
            dropout: None,
            mask_pad: None,
        };
        let attended = Gpu::full_attention(qkv.clone(), &masking);
        let of_exact = Gpu::full_attention_backward(qkv, &masking, attended, grad);
        gradients.push(of_hashed.q + of_exact.q);
    });
    assert_eq!(reads, 0, "the host waits for the device");
    let reads = READS.during(|| drop(gradients.pop().unwrap().into_data()));
    assert!(reads > 0, "reads are not counted");
}

/// Forward, backward and what Adam does with clipped gradients. In the first step kernels of Burn are
/// timed, in the second one nothing is waited for.
#[test]
fn a_step_reads_nothing_back() {
    let Some(_adapter) = adapter_alone() else {
        return;
    };
    let config = config(vec![AttentionKind::Lsh]);
    let mut model = config.init::<Device>(&Default::default());
    let clipping = GradientClippingConfig::Norm(1.0);
    let mut optimizer = AdamConfig::new()
        .with_grad_clipping(Some(clipping))
        .init::<Device, ReformerLm<Device>>();
    let mut reads = Vec::new();
    for number in 0..2 {
        let tokens = integers::<Device, 2>(1, SHAPE, VOCABULARY);
        let pass = Pass::train(Key::new(number));
        reads.push(READS.during(|| {
            let (_, gradients) = model.gradients((tokens.clone(), tokens), pass);
            model = optimizer.step(1e-3, model.clone(), gradients);
        }));
    }
    assert_eq!(reads[1], 0, "the host waits for the device");
}
