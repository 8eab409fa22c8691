//! A training step of a model: what it gives, and that the host does not wait for the device in it.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{assert_close, drawn, integers};
use crate::steps::{Step, stack};
use crate::{Gpu, adapter};
use burn::module::Module;
use burn::record::{BinBytesRecorder, FullPrecisionSettings, Recorder};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Int, Tensor};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use log::{LevelFilter, Log, Metadata, Record};
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::{ReformerLm, ReformerLmConfig};
use reformer_core::{Key, Pass};

const VOCABULARY: u32 = 13;

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

/// With dropout of features. That of attention weights is numbered by slots, of which the device
/// has more than the host: it does not know how many its buckets need.
fn config() -> ReformerLmConfig {
    let stack = stack(VOCABULARY, 3).with_dropout(0.1);
    ReformerLmConfig::new(stack).with_loss_chunk_length(20)
}

fn inputs<B: AutodiffBackend>() -> [Tensor<B, 2, Int>; 2] {
    [1, 2].map(|seed| integers(seed, [2, 50], VOCABULARY))
}

fn step<B>(model: &ReformerLm<B>, pass: Pass<B>) -> Step
where
    B: AutodiffBackend + ReformerBackend,
    B::InnerBackend: ReformerBackend,
{
    let [tokens, targets] = inputs::<B>();
    let (loss, gradients) = model.gradients(tokens, targets, pass);
    Step::new(model, loss, &gradients)
}

/// The same weights on the device.
fn moved(model: ReformerLm<Autodiff<Flex>>) -> ReformerLm<Autodiff<Gpu>> {
    let recorder = BinBytesRecorder::<FullPrecisionSettings, Vec<u8>>::default();
    let bytes = Recorder::<Autodiff<Flex>>::record(&recorder, model.into_record(), ()).unwrap();
    let record = Recorder::<Autodiff<Gpu>>::load(&recorder, bytes, &Default::default()).unwrap();
    config()
        .init::<Autodiff<Gpu>>(&Default::default())
        .load_record(record)
}

#[test]
fn a_step_is_that_of_the_host_and_reads_nothing_back() {
    if !adapter() {
        return;
    }
    let model = drawn(config().init::<Autodiff<Flex>>(&Default::default()));
    let expected = step(&model, Pass::train(Key::new(5)));
    let model = moved(model);
    let found = step(&model, Pass::train(Key::new(5)));
    assert_close("loss", &[found.loss], &[expected.loss], 1e-4);
    for ((name, found), (_, expected)) in found.gradients.iter().zip(&expected.gradients) {
        assert_close(name, found, expected, 1e-3);
    }

    // Everything is compiled and tuned by now, which does read.
    log::set_logger(&READS).unwrap();
    log::set_max_level(LevelFilter::Trace);
    let [tokens, targets] = inputs::<Autodiff<Gpu>>();
    let (loss, gradients) = model.gradients(tokens, targets, Pass::train(Key::new(6)));
    assert_eq!(READS.count(), 0, "a step waits for the device");
    drop(gradients);
    let _ = loss.loss.into_scalar();
    log::set_max_level(LevelFilter::Off);
    assert!(READS.count() > 0, "reads are not counted");
}
