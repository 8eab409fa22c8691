//! Activation functions of the feed-forward layer.

use burn::tensor::{Tensor, TensorPrimitive};
use rayon::prelude::*;

use super::element::{Element, with_element};
use super::host::{Floats, Host, numbers, tensor};
use super::simd::{exp, vectorized};
use crate::kernels::Activation;

/// Numbers per thread task.
const BLOCK: usize = 1 << 14;

/// A function of one variable, without branches that would prevent vectorisation.
trait Curve {
    fn value(x: f32) -> f32;
    fn slope(x: f32) -> f32;
}

struct Relu;
struct Gelu;
struct GeluTanh;
struct Silu;
struct Tanh;
struct Sigmoid;

/// Evaluates an expression with `$curve` for the type of an activation.
macro_rules! with_curve {
    ($activation:expr, $curve:ident => $body:expr) => {
        with_curve!($activation, $curve => $body; Relu Gelu GeluTanh Silu Tanh Sigmoid)
    };
    ($activation:expr, $curve:ident => $body:expr; $($name:ident)*) => {
        match $activation {
            $(Activation::$name => {
                type $curve = $name;
                $body
            })*
        }
    };
}

/// See [`ReformerBackend::activation`](crate::kernels::ReformerBackend::activation). In place if `x` is not shared. In place if
/// the input is not shared.
pub(in crate::kernels) fn activation<B: Host>(
    x: Tensor<B, 3>,
    activation: Activation,
) -> Tensor<B, 3> {
    let (shape, dtype, device) = (x.dims(), x.dtype(), x.device());
    let mut primitive = x.into_primitive().tensor();
    with_element!(dtype, E => {
        if let Some(values) = B::lend_mut::<E>(&mut primitive) {
            with_curve!(activation, C => apply::<C, E>(values));
            return Tensor::from_primitive(TensorPrimitive::Float(primitive));
        }
        let x = Tensor::<B, 3>::from_primitive(TensorPrimitive::Float(primitive));
        let mut values = numbers::<E, B, 3>(x);
        with_curve!(activation, C => apply::<C, E>(&mut values));
        tensor(values, shape, dtype, &device)
    })
}

fn apply<C: Curve, E: Element>(values: &mut [E]) {
    values.par_chunks_mut(BLOCK).for_each(|values| {
        vectorized(
            #[inline(always)]
            || {
                for x in values {
                    *x = E::narrow(C::value(x.wide()));
                }
            },
        );
    });
}

/// See [`ReformerBackend::activation_backward`](crate::kernels::ReformerBackend::activation_backward).
pub(in crate::kernels) fn activation_backward<B: Host>(
    x: Tensor<B, 3>,
    activation: Activation,
    grad: Tensor<B, 3>,
) -> Tensor<B, 3> {
    let (shape, dtype, device) = (x.dims(), x.dtype(), x.device());
    assert_eq!(shape, grad.dims(), "gradient of an activation of {shape:?}");
    with_element!(dtype, E => {
        let x = Floats::<B, 3, E>::row_major(x);
        let mut values = numbers::<E, B, 3>(grad);
        with_curve!(activation, C => apply_backward::<C, E>(&mut values, x.slice()));
        tensor(values, shape, dtype, &device)
    })
}

fn apply_backward<C: Curve, E: Element>(values: &mut [E], x: &[E]) {
    let blocks = values.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK));
    blocks.for_each(|(values, x)| {
        vectorized(
            #[inline(always)]
            || {
                for (grad, x) in values.iter_mut().zip(x) {
                    *grad = E::narrow(grad.wide() * C::slope(x.wide()));
                }
            },
        );
    });
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    // Not `max`, which would hide a NaN.
    let x = if x < -87.0 { -87.0 } else { x };
    1.0 / (1.0 + exp(-x))
}

/// The normal distribution's `exp(-x² / 2)` and its cumulative probability at `x`.
///
/// With `t = 1 / (1 + |x| / √8)`, the probability beyond `|x|` is `exp(-x² / 2)` times a polynomial
/// in `t`, found by interpolation at Chebyshev points; its error is at most 4e-8.
#[inline(always)]
fn normal(x: f32) -> [f32; 2] {
    let bell = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + 0.353_553_4 * x.abs());
    let mut p = -0.026_178_563;
    for coefficient in [
        0.127_011_8,
        -0.214_630_78,
        0.109_420_87,
        0.004_311_331,
        0.095_194_675,
        0.122_751_54,
        0.141_071_88,
        0.141_047_25,
    ] {
        p = p * t + coefficient;
    }
    let beyond = p * t * bell;
    [bell, if x < 0.0 { beyond } else { 1.0 - beyond }]
}

/// `2 √(2 / π)`.
const GELU_TANH: f32 = 1.595_769;
const GELU_CUBE: f32 = 0.044_715;

impl Curve for Relu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        if x < 0.0 { 0.0 } else { x }
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        if x > 0.0 { 1.0 } else { 0.0 }
    }
}

impl Curve for Gelu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        let [_, share] = normal(x);
        x * share
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        /// `1 / √(2 π)`.
        const HEIGHT: f32 = 0.398_942_3;
        let [bell, share] = normal(x);
        share + x * bell * HEIGHT
    }
}

/// Computed as `(1 + tanh(u)) / 2 = sigmoid(2 u)`.
impl Curve for GeluTanh {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * sigmoid(GELU_TANH * x * (1.0 + GELU_CUBE * x * x))
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let square = x * x;
        let s = sigmoid(GELU_TANH * x * (1.0 + GELU_CUBE * square));
        let inner = GELU_TANH * (1.0 + 3.0 * GELU_CUBE * square);
        s + x * inner * (s * (1.0 - s))
    }
}

impl Curve for Silu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * sigmoid(x)
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let s = sigmoid(x);
        s * (1.0 + x * (1.0 - s))
    }
}

impl Curve for Tanh {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        // Near zero, `1 - 2 / (e^2x + 1)` suffers from cancellation; Cephes' polynomial does not.
        let square = x * x;
        let mut p = -5.704_988_7e-3;
        for coefficient in [2.063_909e-2, -5.373_971_4e-2, 0.133_314_42, -0.333_332_8] {
            p = p * square + coefficient;
        }
        let near = x + x * square * p;
        let far = 2.0 * sigmoid(2.0 * x) - 1.0;
        if x.abs() < 0.625 { near } else { far }
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let y = Self::value(x);
        1.0 - y * y
    }
}

impl Curve for Sigmoid {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        sigmoid(x)
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let s = sigmoid(x);
        s * (1.0 - s)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, check, numbers, on_both_backends};
    use super::*;
    use crate::kernels::{ReformerBackend, reference};
    use burn::tensor::backend::Backend;
    use burn_autodiff::Autodiff;

    on_both_backends!(kernel_is_the_reference);

    const ALL: [Activation; 6] = [
        Activation::Relu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::Tanh,
        Activation::Sigmoid,
    ];

    fn kernel_is_the_reference<B: ReformerBackend>() {
        for activation in ALL {
            for shape in [[2, 3, 5], [1, 130, 257]] {
                let view =
                    |x: &Tensor<Autodiff<B>, 1>| (x.clone() * 3.0).reshape(shape).swap_dims(0, 1);
                check::<B>(
                    &[shape.iter().product()],
                    |x| Autodiff::<B>::activation(view(&x[0]), activation).flatten(0, 2),
                    |x| by_operations(view(&x[0]), activation).flatten(0, 2),
                );
            }
            let numbers = || numbers::<B>(270, 3).reshape([5, 6, 9]);
            let kernel = B::activation_backward(numbers() * 2.0, activation, numbers());
            let expected = reference::activation_backward(numbers() * 2.0, activation, numbers());
            assert_close(&kernel.into_data(), &expected.into_data(), 0);
        }
    }

    /// The reference, except for gelu: on backends without a gelu kernel, Burn uses the gradient of
    /// its tanh approximation (up to 3e-4 off).
    fn by_operations<B: Backend>(x: Tensor<B, 3>, activation: Activation) -> Tensor<B, 3> {
        match activation {
            Activation::Gelu => {
                x.clone() * ((x * core::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5
            }
            _ => reference::activation(x, activation),
        }
    }

    /// The cumulative normal distribution by its Taylor series, in `f64`.
    fn exact_share(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..400 {
            term *= -x * x / (2.0 * f64::from(n));
            sum += term / f64::from(2 * n + 1);
        }
        0.5 + sum / (2.0 * core::f64::consts::PI).sqrt()
    }

    #[test]
    fn normal_share_is_right_to_2e_7() {
        for i in -5000..5000 {
            let x = i as f32 / 1000.0;
            let [_, share] = normal(x);
            let error = (f64::from(share) - exact_share(f64::from(x))).abs();
            assert!(error < 2e-7, "{x}: {error}");
        }
    }

    #[test]
    fn ends_are_what_they_tend_to() {
        for (activation, low, high) in [
            (Activation::Relu, 0.0, 1e3),
            (Activation::Gelu, 0.0, 1e3),
            (Activation::GeluTanh, 0.0, 1e3),
            (Activation::Silu, 0.0, 1e3),
            (Activation::Tanh, -1.0, 1.0),
            (Activation::Sigmoid, 0.0, 1.0),
        ] {
            let [found_low, found_high, nan] =
                with_curve!(activation, C => [-1e3, 1e3, f32::NAN].map(C::value));
            assert!(
                (found_low - low).abs() < 1e-30,
                "{activation:?}: {found_low}"
            );
            assert_eq!(found_high, high, "{activation:?}");
            assert!(nan.is_nan(), "{activation:?} hides a NaN");
        }
    }
}
