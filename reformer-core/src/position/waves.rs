//! Sines and cosines of positions.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

/// Base of the wavelengths of sinusoidal positions (Vaswani et al., 2017).
const SINUSOIDAL_BASE: f64 = 10_000.0;

/// `sin` and `cos` of `position / base^(i / n_waves)`: twice `[positions, n_waves]`.
///
/// Computed in `f64`: at a million positions the angle of the fastest wave exceeds the precision of `f32`.
pub(crate) fn sin_cos(
    positions: impl Iterator<Item = usize>,
    n_waves: usize,
    base: f64,
) -> [Vec<f32>; 2] {
    let frequencies = frequencies(n_waves, base);
    let angles =
        positions.flat_map(|position| frequencies.iter().map(move |f| position as f64 * f));
    let (sin, cos) = angles
        .map(|angle| {
            let (sin, cos) = angle.sin_cos();
            (sin as f32, cos as f32)
        })
        .unzip();
    [sin, cos]
}

/// Angles between neighbouring positions: `base^(-i / n_waves)`.
pub(crate) fn frequencies(n_waves: usize, base: f64) -> Vec<f64> {
    (0..n_waves)
        .map(|wave| base.powf(-(wave as f64) / n_waves as f64))
        .collect()
}

/// Sinusoidal positions (Vaswani et al., 2017, section 3.5), sines before cosines:
/// `[positions, d_model]`.
pub(super) fn sinusoids<B: Backend>(
    positions: impl ExactSizeIterator<Item = usize>,
    d_model: usize,
    device: &B::Device,
) -> Tensor<B, 2> {
    let shape = [positions.len(), d_model / 2];
    let waves = sin_cos(positions, d_model / 2, SINUSOIDAL_BASE).map(|values| {
        let values = TensorData::new(values, shape).convert::<B::FloatElem>();
        Tensor::from_data(values, device)
    });
    Tensor::cat(waves.to_vec(), 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{ReformerBackend, Rotation, reference};
    use burn::tensor::{Distribution, Tolerance};
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    #[test]
    fn rotated_dot_products_depend_on_distances_alone() {
        let device = Default::default();
        let vector = || Tensor::<Flex, 4>::random([1, 1, 1, 16], Distribution::Default, &device);
        let everywhere = |vector: Tensor<Flex, 4>| {
            Flex::rotate(vector.expand([1, 1, 40, 16]), 10_000.0, Rotation::Apply)
        };
        let (q, k) = (everywhere(vector()), everywhere(vector()));
        let dot = |i: usize, j: usize| {
            let q = q.clone().slice_dim(2, i..i + 1);
            let k = k.clone().slice_dim(2, j..j + 1);
            (q * k).sum().into_data()
        };
        dot(7, 3).assert_approx_eq::<f32>(&dot(39, 35), Tolerance::absolute(1e-4));
        dot(0, 20).assert_approx_eq::<f32>(&dot(11, 31), Tolerance::absolute(1e-4));
    }

    #[test]
    fn kernel_and_gradient_are_those_of_the_reference() {
        let device = Default::default();
        let random =
            || Tensor::<Autodiff<Flex>, 4>::random([2, 3, 9, 6], Distribution::Default, &device);
        let (x, weight) = (random(), random());
        let run = |kernel: bool| {
            let x = x.clone().require_grad();
            let y = if kernel {
                Autodiff::<Flex>::rotate(x.clone(), 100.0, Rotation::Apply)
            } else {
                reference::rotate(x.clone(), 100.0, Rotation::Apply)
            };
            let gradients = (y.clone() * weight.clone()).sum().backward();
            [y.inner(), x.grad(&gradients).unwrap()].map(Tensor::into_data)
        };
        for (found, expected) in run(true).iter().zip(&run(false)) {
            found.assert_approx_eq::<f32>(expected, Tolerance::absolute(1e-6));
        }
    }

    #[test]
    fn sinusoids_are_what_the_formula_says() {
        let table = sinusoids::<Flex>(0..5, 4, &Default::default());
        let expected = [3f64.sin(), 0.03f64.sin(), 3f64.cos(), 0.03f64.cos()];
        table
            .slice_dim(0, 3..4)
            .into_data()
            .assert_approx_eq::<f32>(
                &TensorData::from([expected]).convert::<f32>(),
                Tolerance::absolute(1e-6),
            );
    }
}
