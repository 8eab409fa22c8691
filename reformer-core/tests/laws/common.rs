//! What the tests of this folder share.

use std::process::Command;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use reformer_core::Key;

/// Standard normal numbers of a seed.
pub(crate) fn normal<B: Backend, const D: usize>(seed: u64, shape: [usize; D]) -> Tensor<B, D> {
    let mut stream = Key::new(seed).stream();
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| StandardNormal.sample(&mut stream))
        .collect();
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

/// Numbers below `limit` of a seed.
pub(crate) fn integers<B: Backend, const D: usize>(
    seed: u64,
    shape: [usize; D],
    limit: u32,
) -> Tensor<B, D, Int> {
    let mut stream = Key::new(seed).stream();
    let values: Vec<i32> = (0..shape.iter().product())
        .map(|_| (stream.next_u32() % limit) as i32)
        .collect();
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

/// Draws the weights of a module now. Burn draws them when they are first used, so that clones of
/// an unused module would differ.
pub(crate) fn drawn<B: Backend, M: Module<B>>(module: M) -> M {
    struct Draw;
    impl<B: Backend> ModuleMapper<B> for Draw {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
            param.map(|value| value)
        }
    }
    B::seed(&Default::default(), 42);
    module.map(&mut Draw)
}

/// A tensor as plain numbers.
pub(crate) fn numbers<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Largest difference, relative to the largest expected number.
pub(crate) fn relative_error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1e-30, |m: f64, x| m.max(x.abs()));
    let pairs = found.iter().zip(expected);
    pairs.fold(0.0, |m: f64, (f, e)| m.max((f - e).abs())) / largest
}

/// Compares tensors: the largest difference may be `tolerance` of the largest expected number.
#[track_caller]
pub(crate) fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert!(found.iter().all(|x| x.is_finite()), "{what}: not finite");
    let error = relative_error(found, expected);
    assert!(
        error <= tolerance,
        "{what}: relative error {error:.2e} above {tolerance:.0e}"
    );
}

/// Runs an ignored test of this program in a process of its own. The first backend that uses a device settles
/// what Burn takes for its floats: `NdArray<f64>` would have `NdArray` compute in `f64`, or the other way round.
pub(crate) fn alone(name: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("1 passed"), "there is no `{name}`: {text}");
    print!("{text}");
}

/// Makes a test for each CPU backend out of a function that is generic over it.
#[macro_export]
macro_rules! on_cpu_backends {
    ($($function:ident),* $(,)?) => {
        mod flex {
            $(#[test] fn $function() { super::$function::<burn_flex::Flex>(); })*
        }
        mod ndarray {
            $(#[test] fn $function() { super::$function::<burn_ndarray::NdArray>(); })*
        }
    };
}
