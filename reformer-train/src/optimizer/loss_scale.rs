//! Dynamic scaling of the loss, for activations in `f16`.
//!
//! Gradients below 2^-24 are zero in `f16`. So the loss is multiplied by a large power of two before
//! the backward pass and its gradients are divided by it after (Micikevicius et al., "Mixed Precision
//! Training", ICLR 2018, section 3.2). The power is as large as it can be: it doubles after a while
//! without an infinite gradient; after one, it is halved and the step is skipped.

use std::sync::{Arc, Mutex, PoisonError};

use burn::module::AutodiffModule;
use burn::optim::{GradientsParams, LearningRate, MultiGradientsParams, Optimizer};
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
const PATIENCE: usize = 1000;

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
    pub(crate) fn leaves_out(&self, is_finite: bool) -> bool {
        let Some(State { scale, n_good }) = self.state() else {
            return false;
        };
        let next = match is_finite {
            true if n_good + 1 >= PATIENCE => State {
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

/// An optimizer whose record includes the loss scale.
#[derive(Debug, Clone)]
pub(crate) struct WithLossScale<O> {
    optimizer: O,
    scale: LossScale,
}

impl<O> WithLossScale<O> {
    pub(crate) fn new(optimizer: O, scale: LossScale) -> Self {
        Self { optimizer, scale }
    }
}

impl<O, M, B> Optimizer<M, B> for WithLossScale<O>
where
    O: Optimizer<M, B>,
    M: AutodiffModule<B>,
    B: AutodiffBackend,
{
    type Record = (O::Record, Option<(f64, usize)>);

    fn step(&mut self, lr: LearningRate, module: M, grads: GradientsParams) -> M {
        self.optimizer.step(lr, module, grads)
    }

    fn step_multi(&mut self, lr: LearningRate, module: M, grads: MultiGradientsParams) -> M {
        self.optimizer.step_multi(lr, module, grads)
    }

    fn to_record(&self) -> Self::Record {
        let state = self.scale.state();
        let state = state.map(|State { scale, n_good }| (scale, n_good));
        (self.optimizer.to_record(), state)
    }

    fn load_record(self, (record, state): Self::Record) -> Self {
        if let Some((scale, n_good)) = state {
            self.scale.set(State { scale, n_good });
        }
        Self {
            optimizer: self.optimizer.load_record(record),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::SgdConfig;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    type B = Autodiff<Flex>;

    #[test]
    fn scale_doubles_in_time_and_halves_at_once() {
        let scale = LossScale::new(Precision::F16);
        assert_eq!(scale.factor(), FIRST);
        for _ in 1..PATIENCE {
            assert!(!scale.leaves_out(true));
        }
        assert_eq!(scale.factor(), FIRST);
        assert!(!scale.leaves_out(true));
        assert_eq!(scale.factor(), 2.0 * FIRST);
        assert!(scale.leaves_out(false));
        assert!(scale.leaves_out(false));
        assert_eq!(scale.factor(), FIRST / 2.0);
        // Doubling again takes the full number of steps.
        for _ in 1..PATIENCE {
            scale.leaves_out(true);
        }
        assert_eq!(scale.factor(), FIRST / 2.0);
    }

    #[test]
    fn what_is_infinite_without_a_scale_is_no_matter_of_the_scale() {
        let scale = LossScale::new(Precision::F16);
        let n_left_out = (0..100).filter(|_| scale.leaves_out(false)).count();
        assert_eq!(n_left_out as f64, FIRST.log2());
        assert_eq!(scale.factor(), SMALLEST);
        for _ in 0..100 * PATIENCE {
            scale.leaves_out(true);
        }
        assert_eq!(scale.factor(), LARGEST);
    }

    #[test]
    fn f32_and_bf16_have_no_scale() {
        for precision in [Precision::Full, Precision::Bf16] {
            let scale = LossScale::new(precision);
            assert!(!scale.leaves_out(false));
            assert_eq!(scale.factor(), 1.0);
        }
    }

    #[test]
    fn scale_is_in_the_record() {
        let with = |scale: &LossScale| {
            let sgd = SgdConfig::new().init::<B, Linear<B>>();
            WithLossScale::new(sgd, scale.clone())
        };
        let [before, after] = [(); 2].map(|()| LossScale::new(Precision::F16));
        before.leaves_out(false);
        before.leaves_out(true);
        let record = Optimizer::<Linear<B>, B>::to_record(&with(&before));
        let _loaded = Optimizer::<Linear<B>, B>::load_record(with(&after), record);
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
