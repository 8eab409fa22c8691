//! Sines and cosines of positions.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

/// Base of the wave lengths of sinusoidal positions (Vaswani et al., 2017).
const SINUSOIDAL_BASE: f64 = 10_000.0;

/// `sin` and `cos` of `position / base^(i / n_waves)`: twice `[seq_length, n_waves]`.
///
/// Computed in `f64`: at a million positions the fastest wave is beyond what `f32` resolves.
fn sin_cos<B: Backend>(
    seq_length: usize,
    n_waves: usize,
    base: f64,
    device: &B::Device,
) -> [Tensor<B, 2>; 2] {
    let frequencies: Vec<f64> = (0..n_waves)
        .map(|wave| base.powf(-(wave as f64) / n_waves as f64))
        .collect();
    let angles =
        (0..seq_length).flat_map(|position| frequencies.iter().map(move |f| position as f64 * f));
    let (sin, cos): (Vec<f32>, Vec<f32>) = angles
        .map(|angle| {
            let (sin, cos) = angle.sin_cos();
            (sin as f32, cos as f32)
        })
        .unzip();
    [sin, cos]
        .map(|values| Tensor::from_data(TensorData::new(values, [seq_length, n_waves]), device))
}

/// Sinusoidal positions (Vaswani et al., 2017, section 3.5), sines before cosines:
/// `[seq_length, d_model]`.
pub(super) fn sinusoids<B: Backend>(
    seq_length: usize,
    d_model: usize,
    device: &B::Device,
) -> Tensor<B, 2> {
    let waves = sin_cos(seq_length, d_model / 2, SINUSOIDAL_BASE, device);
    Tensor::cat(waves.to_vec(), 1)
}

/// Rotary positions (Su et al., 2021): feature `i` of the first half of a head and its partner in
/// the second half are turned by an angle that grows with the position. Dot products then depend
/// on distances, and lengths stay the same.
///
/// # Shapes
/// - heads, output: `[batch_size, n_heads, seq_length, d_head]`, `d_head` even
pub fn rotate_by_position<B: Backend>(heads: Tensor<B, 4>, base: f64) -> Tensor<B, 4> {
    let [_, _, seq_length, d_head] = heads.dims();
    let [sin, cos] = sin_cos::<B>(seq_length, d_head / 2, base, &heads.device())
        .map(|waves| waves.unsqueeze::<4>());
    let first = heads.clone().slice_dim(3, 0..d_head / 2);
    let second = heads.slice_dim(3, d_head / 2..d_head);
    let turned = vec![
        first.clone() * cos.clone() - second.clone() * sin.clone(),
        second * cos + first * sin,
    ];
    Tensor::cat(turned, 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Distribution, Tolerance};
    use burn_flex::Flex;

    #[test]
    fn rotated_dot_products_depend_on_distances_alone() {
        let device = Default::default();
        let vector = || Tensor::<Flex, 4>::random([1, 1, 1, 16], Distribution::Default, &device);
        let everywhere =
            |vector: Tensor<Flex, 4>| rotate_by_position(vector.expand([1, 1, 40, 16]), 10_000.0);
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
    fn sinusoids_are_what_the_formula_says() {
        let table = sinusoids::<Flex>(5, 4, &Default::default());
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
