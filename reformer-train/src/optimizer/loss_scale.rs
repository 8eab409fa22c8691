//! Dynamic scaling of the loss, for activations in `f16`.
//!
//! Gradients below 2^-24 are zero in `f16`. So the loss is multiplied by a large power of two before
//! the backward pass and its gradients are divided by it after (Micikevicius et al., "Mixed Precision
//! Training", ICLR 2018, section 3.2). The power is as large as it can be: it doubles after a while
//! without an infinite gradient; after one, it is halved and the step is skipped.

use std::sync::{Arc, Mutex, PoisonError};

use burn::module::AutodiffModule;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use reformer_core::Precision;

use crate::optimizer::clip::scaled;

/// Initial scale.
const FIRST: f64 = 65_536.0;
/// Smallest scale: below it, infinite gradients are not due to the scale.
const SMALLEST: f64 = 1.0;
const LARGEST: f64 = 16_777_216.0;
/// Number of good steps after which the scale is doubled.
const GROWTH_INTERVAL: usize = 1000;

/// The scale, and good steps since it last changed.
#[derive(Debug, Clone, Copy, PartialEq)]
struct State {
    scale: f64,
    n_good: usize,
}

/// The loss scale of a run, shared by the gradient computation, the optimizer and the
/// checkpoints.
#[derive(Debug, Clone)]
pub(crate) struct LossScale(Option<Arc<Mutex<State>>>);

impl LossScale {
    /// A scale for `f16`; none for types with the range of `f32`.
    pub(crate) fn new(precision: Precision) -> Self {
        let is_needed = precision == Precision::F16;
        Self(is_needed.then(|| {
            Arc::new(Mutex::new(State {
                scale: FIRST,
                n_good: 0,
            }))
        }))
    }

    /// No scale.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    fn state(&self) -> Option<State> {
        let state = self.0.as_ref()?;
        Some(*state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, state: State) {
        if let Some(shared) = &self.0 {
            *shared.lock().unwrap_or_else(PoisonError::into_inner) = state;
        }
    }

    /// What a checkpoint contains of it: the scale, and good steps since it last changed.
    pub(crate) fn to_record(&self) -> Option<(f64, usize)> {
        self.state().map(|State { scale, n_good }| (scale, n_good))
    }

    /// Continues from the scale in a checkpoint.
    pub(crate) fn load_record(&self, record: Option<(f64, usize)>) {
        if let Some((scale, n_good)) = record {
            self.set(State { scale, n_good });
        }
    }

    /// The factor of the loss.
    pub(crate) fn factor(&self) -> f64 {
        self.state().map_or(1.0, |state| state.scale)
    }

    /// Divides gradients by the scale.
    pub(crate) fn unscale<B: AutodiffBackend, M: AutodiffModule<B>>(
        &self,
        module: &M,
        gradients: GradientsParams,
    ) -> GradientsParams {
        match (self.state(), module.devices().first()) {
            (Some(state), Some(device)) => {
                let factor = Tensor::from_data([1.0 / state.scale], device);
                scaled(module, gradients, factor)
            }
            _ => gradients,
        }
    }

    /// Updates the scale after a step. Returns whether gradients that are not finite are to be skipped
    /// without an error, because the scale was too large for them.
    pub(crate) fn update_and_check_skip(&self, is_finite: bool) -> bool {
        let Some(State { scale, n_good }) = self.state() else {
            return false;
        };
        let next = match is_finite {
            true if n_good + 1 >= GROWTH_INTERVAL => State {
                scale: LARGEST.min(scale * 2.0),
                n_good: 0,
            },
            true => State {
                scale,
                n_good: n_good + 1,
            },
            false => State {
                scale: SMALLEST.max(scale / 2.0),
                n_good: 0,
            },
        };
        self.set(next);
        !is_finite && scale > SMALLEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    type B = Autodiff<Flex>;

    #[test]
    fn scale_doubles_in_time_and_halves_at_once() {
        let scale = LossScale::new(Precision::F16);
        assert_eq!(scale.factor(), FIRST);
        for _ in 1..GROWTH_INTERVAL {
            assert!(!scale.update_and_check_skip(true));
        }
        assert_eq!(scale.factor(), FIRST);
        assert!(!scale.update_and_check_skip(true));
        assert_eq!(scale.factor(), 2.0 * FIRST);
        assert!(scale.update_and_check_skip(false));
        assert!(scale.update_and_check_skip(false));
        assert_eq!(scale.factor(), FIRST / 2.0);
        // Doubling again takes the full number of steps.
        for _ in 1..GROWTH_INTERVAL {
            scale.update_and_check_skip(true);
        }
        assert_eq!(scale.factor(), FIRST / 2.0);
    }

    #[test]
    fn what_is_infinite_without_a_scale_is_no_matter_of_the_scale() {
        let scale = LossScale::new(Precision::F16);
        let n_skipped = (0..100)
            .filter(|_| scale.update_and_check_skip(false))
            .count();
        assert_eq!(n_skipped as f64, FIRST.log2());
        assert_eq!(scale.factor(), SMALLEST);
        for _ in 0..100 * GROWTH_INTERVAL {
            scale.update_and_check_skip(true);
        }
        assert_eq!(scale.factor(), LARGEST);
    }

    #[test]
    fn f32_and_bf16_have_no_scale() {
        for precision in [Precision::Full, Precision::Bf16] {
            let scale = LossScale::new(precision);
            assert!(!scale.update_and_check_skip(false));
            assert_eq!(scale.factor(), 1.0);
        }
    }

    #[test]
    fn scale_is_in_the_record() {
        let [before, after] = [(); 2].map(|()| LossScale::new(Precision::F16));
        before.update_and_check_skip(false);
        before.update_and_check_skip(true);
        after.load_record(before.to_record());
        assert_eq!(after.state(), before.state());
        assert_ne!(after.state(), LossScale::new(Precision::F16).state());
    }

    #[test]
    fn unscaled_gradients_are_divided() {
        let device = Default::default();
        let linear = LinearConfig::new(1, 2).with_bias(false).init::<B>(&device);
        let mut gradients = GradientsParams::new();
        let values = Tensor::<Flex, 2>::from_data([[FIRST, -FIRST / 2.0]], &device);
        gradients.register(linear.weight.id, values);
        let scale = LossScale::new(Precision::F16);
        let gradients = scale.unscale(&linear, gradients);
        let values = gradients.get::<Flex, 2>(linear.weight.id);
        let values = values.unwrap().into_data().to_vec::<f32>().unwrap();
        assert_eq!(values, [1.0, -0.5]);
    }
}
