//! Helpers for kernel tests, which compare with the reference and Burn's own autodiff.

use burn::tensor::{Tensor, TensorData};
use burn_autodiff::Autodiff;
use rand::Rng;
use rayon::ThreadPoolBuilder;

use crate::kernels::ReformerBackend;
use crate::random::Key;

/// Numbers between -2 and 2.
pub(super) fn numbers<B: burn::tensor::backend::Backend>(n: usize, seed: u64) -> Tensor<B, 1> {
    let mut stream = Key::new(seed).stream();
    let values: Vec<f32> = (0..n)
        .map(|_| stream.next_u32() as f32 / 2f32.powi(30) - 2.0)
        .collect();
    Tensor::from_data(TensorData::new(values, [n]), &B::Device::default())
}

/// A function of flat tensors.
pub(super) trait Function<B: ReformerBackend>:
    Fn(&[Tensor<Autodiff<B>, 1>]) -> Tensor<Autodiff<B>, 1> + Sync
{
}

impl<B, F> Function<B> for F
where
    B: ReformerBackend,
    F: Fn(&[Tensor<Autodiff<B>, 1>]) -> Tensor<Autodiff<B>, 1> + Sync,
{
}

/// Output and gradients of a function, for inputs of these sizes.
fn run<B: ReformerBackend>(sizes: &[usize], function: &impl Function<B>) -> Vec<TensorData> {
    let inputs: Vec<_> = (1..)
        .zip(sizes)
        .map(|(seed, &size)| numbers::<Autodiff<B>>(size, seed).require_grad())
        .collect();
    let output = function(&inputs);
    let weight = numbers(output.dims()[0], 0);
    let gradients = (output.clone() * weight).sum().backward();
    let gradients = inputs.iter().map(|input| {
        let gradient = input.grad(&gradients).expect("every input is used");
        gradient.into_data()
    });
    core::iter::once(output.inner().into_data())
        .chain(gradients)
        .collect()
}

/// Asserts that outputs and gradients of a kernel equal those of the reference under plain
/// autodiff, with the same bits for any number of threads.
pub(super) fn check<B: ReformerBackend>(
    sizes: &[usize],
    kernel: impl Function<B>,
    reference: impl Function<B>,
) {
    let found = run(sizes, &kernel);
    for (number, (found, expected)) in found.iter().zip(run(sizes, &reference)).enumerate() {
        assert_close(found, &expected, number);
    }
    for threads in 1..=3 {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a few threads");
        let again = pool.install(|| run(sizes, &kernel));
        assert_eq!(again, found, "{threads} threads");
    }
}

/// Asserts equality within 1e-5 of the largest value.
pub(super) fn assert_close(found: &TensorData, expected: &TensorData, number: usize) {
    assert_eq!(found.shape, expected.shape);
    let expected: Vec<f64> = expected.iter().collect();
    let largest = expected.iter().fold(1e-3, |max: f64, x| max.max(x.abs()));
    for (at, (found, expected)) in found.iter::<f64>().zip(expected).enumerate() {
        let error = (found - expected).abs() / largest;
        assert!(
            error < 1e-5,
            "tensor {number}, element {at}: {found} instead of {expected}"
        );
    }
}

/// Runs a test on both backends with host memory.
macro_rules! on_both_backends {
    ($($name:ident)*) => {
        #[cfg(feature = "flex")]
        mod on_flex {
            $(#[test]
            fn $name() {
                super::$name::<burn_flex::Flex>();
            })*
        }

        #[cfg(feature = "ndarray")]
        mod on_ndarray {
            $(#[test]
            fn $name() {
                super::$name::<burn_ndarray::NdArray<f32>>();
            })*
        }
    };
}
pub(super) use on_both_backends;
