//! The host does not wait for the device between hashing and the last gradient.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::normal;
use crate::{Gpu, adapter};
use burn::tensor::Tensor;
use log::{LevelFilter, Log, Metadata, Record};
use reformer_core::Key;
use reformer_core::kernels::{
    Duplicates, KeyRule, Keys, Masking, Qkv, ReformerBackend, SlotLayout, TileShape, TiledAttention,
};

/// Counts how often wgpu maps a buffer for the host: the only way to read one.
struct Reads(AtomicUsize);

static READS: Reads = Reads(AtomicUsize::new(0));

impl Reads {
    fn count(&self) -> usize {
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

#[test]
fn attention_reads_nothing_back() {
    if !adapter() {
        return;
    }
    let shape = [1, 2, 200, 32];
    let qkv = Qkv {
        q: normal::<Gpu, 4>(1, shape),
        keys: Keys::UnitQueries(1.0),
        v: normal(2, shape),
    };
    let rotations = normal(3, [2, 32, 2, 4]);
    let grad: Tensor<Gpu, 4> = normal(4, shape);
    log::set_logger(&READS).unwrap();
    log::set_max_level(LevelFilter::Trace);

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
    let hashed = Gpu::tiled_attention_backward(qkv.clone(), &slots, &rules, attended, grad.clone());
    let masking = Masking {
        causal: true,
        exclude_self: true,
        dropout: None,
        mask_pad: None,
    };
    let attended = Gpu::full_attention(qkv.clone(), &masking);
    let exact = Gpu::full_attention_backward(qkv, &masking, attended, grad);
    assert_eq!(READS.count(), 0, "the host waits for the device");

    let _ = (hashed.q + exact.q).into_data();
    log::set_max_level(LevelFilter::Off);
    assert!(READS.count() > 0, "reads are not counted");
}
