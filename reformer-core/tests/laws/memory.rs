//! Memory of a training step over depth, by an allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{drawn, integers};
use burn::module::Module;
use burn_autodiff::Autodiff;
use reformer_core::attention::AttentionKind;
use reformer_core::kernels::{ReformerBackend, TrainBackend};
use reformer_core::model::{
    CrossKind, ReformerConfig, ReformerSeq2SeqConfig, Seq2SeqInput, Trainable,
};
use reformer_core::position::PositionConfig;
use reformer_core::reversible::Mode;
use reformer_core::{Key, Pass};

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, with the bytes that are held and the most there were.
struct Counting;

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most bytes that a function held beside what was held before, in the test that runs; tests run
/// one after another.
pub(crate) fn peak<T>(function: impl FnOnce() -> T) -> usize {
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    drop(function());
    PEAK.load(Ordering::Relaxed) - before
}

/// Peak of a step of an encoder-decoder of so many layers on each side, and its parameters' bytes.
fn step<B>(cross: CrossKind, mode: Mode, n_layers: usize) -> [usize; 2]
where
    B: TrainBackend,
{
    let reformer = ReformerConfig::new(20, 32, n_layers)
        .with_layers(vec![AttentionKind::Lsh])
        .with_position(PositionConfig::Sinusoidal)
        .with_ff_chunk_length(Some(128))
        .with_mode(mode);
    let config = ReformerSeq2SeqConfig::new(reformer).with_cross(cross);
    let model = drawn(config.init::<B>(&Default::default()));
    let shape = [2, 600];
    let run = || {
        let input = Seq2SeqInput {
            source: integers(1, shape, 20),
            source_mask_pad: None,
            inputs: integers(2, shape, 20),
            input_mask_pad: None,
        };
        model.gradients((input, integers(3, shape, 20)), Pass::train(Key::new(1)))
    };
    // Whatever is made once and kept does not count.
    drop(run());
    [peak(run), 4 * model.num_params()]
}

/// What more layers add is the gradients of their parameters, and buckets; in plain mode it is
/// activations.
fn tapes_of_an_encoder_decoder_do_not_grow_with_depth<B: ReformerBackend>() {
    for cross in [CrossKind::Full, CrossKind::Concatenated] {
        let growth = |mode| {
            let [few, many] = [2, 8].map(|n_layers| step::<Autodiff<B>>(cross, mode, n_layers));
            [many[0] as f64 - few[0] as f64, (many[1] - few[1]) as f64]
        };
        let [reversible, gradients] = growth(Mode::Reversible);
        let [plain, _] = growth(Mode::Plain);
        println!("{cross:?}: {reversible} and {plain} bytes more, {gradients} of gradients");
        assert!(reversible < 1.5 * gradients, "{cross:?}: {reversible}");
        assert!(plain > 10.0 * gradients, "{cross:?}: {plain}");
    }
}

crate::on_cpu_backends!(tapes_of_an_encoder_decoder_do_not_grow_with_depth);
