//! The kernels of the CPU backends, each against its own reference, and what is special to them.

use core::marker::PhantomData;

use crate::cases::{inputs, slots};
use crate::common::{assert_close, numbers};
use crate::suite::Subject;
use crate::suite::attended::{By, Rules, both_keys, chunks, grad_of};
use rayon::ThreadPoolBuilder;
use reformer_core::Key;
use reformer_core::kernels::{Masking, ReformerBackend, SlotLayout};

/// Judged by its own reference.
pub(crate) struct OnCpu<B>(PhantomData<B>);

impl<B: ReformerBackend> Subject for OnCpu<B> {
    type Backend = B;
    type Judge = B;
    const TOLERANCE: f64 = 1e-5;

    fn take() -> Option<impl Sized> {
        Some(())
    }
}

crate::suite::kernel_laws!(suite_on_flex: crate::kernels::OnCpu<burn_flex::Flex>);
crate::suite::kernel_laws!(suite_on_ndarray: crate::kernels::OnCpu<burn_ndarray::NdArray>);

/// The slices of the reference are shorter than a tile of the kernel here.
fn full_dropout_does_not_depend_on_slices<B: ReformerBackend>() {
    let inputs = inputs::<B>([1, 1, 20_000, 2], 1, false);
    let masking = Rules::Full(Masking {
        causal: true,
        exclude_self: true,
        dropout: Some((0.5, Key::new(8))),
        mask_pad: None,
    });
    let part = |by| {
        let [qkv, _] = both_keys(&inputs, false);
        numbers(masking.forward(qkv, by).output.slice_dim(2, 0..700))
    };
    let (found, expected) = (part(By::Kernel), part(By::Reference));
    assert_close("20,000 positions", &found, &expected, OnCpu::<B>::TOLERANCE);
}

fn threads_change_nothing<B: ReformerBackend>() {
    let inputs = inputs::<B>([1, 3, 700, 16], 3, false);
    let [_, qkv] = both_keys(&inputs, true);
    let masking = Masking {
        causal: true,
        exclude_self: true,
        dropout: None,
        mask_pad: None,
    };
    let both = [
        Rules::Tiled(slots(&inputs, SlotLayout::Dense(16)), chunks(16, 1, 0)),
        Rules::Full(masking),
    ];
    let with = |n_threads| {
        let pool = ThreadPoolBuilder::new()
            .num_threads(n_threads)
            .build()
            .unwrap();
        let run = |rules: &Rules<B>| rules.run(qkv.clone(), grad_of(&qkv), By::Kernel);
        pool.install(|| both.each_ref().map(run))
    };
    let one = with(1);
    for n_threads in [2, 3, 5] {
        assert_eq!(with(n_threads), one, "{n_threads} threads");
    }
}

crate::on_cpu_backends!(
    full_dropout_does_not_depend_on_slices,
    threads_change_nothing,
);
