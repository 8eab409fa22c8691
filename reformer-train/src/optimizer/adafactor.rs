//! Adafactor: adaptive steps with memory proportional to rows plus columns of a matrix.

use burn::config::Config;
use burn::module::AutodiffModule;
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{LearningRate, SimpleOptimizer};
use burn::record::Record;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use reformer_core::ConfigError;

/// Relative steps are never larger than this (paper, section 8).
const LARGEST_RELATIVE_STEP: f64 = 1e-2;

/// Configuration of [`Adafactor`] (Shazeer and Stern, 2018). The defaults are the paper's,
/// algorithms 4 to 6.
///
/// With `relative_step` off it is what trax calls Adafactor: the schedule alone gives the rate,
/// times the scale of the parameter.
#[derive(Config, Debug, Copy, PartialEq)]
pub struct AdafactorConfig {
    /// Decay of the first moment. Default: none is kept, which saves the memory.
    pub beta_1: Option<f64>,
    /// In step `t`, counted from 1, the second moment decays by `1 - t^-decay_exponent`.
    #[config(default = 0.8)]
    pub decay_exponent: f64,
    /// Root mean square above which an update is scaled down.
    #[config(default = 1.0)]
    pub clip_threshold: f64,
    /// Whether the learning rate is multiplied by `min(0.01, 1 / sqrt(t))`. A schedule that is
    /// constantly 1 then gives the paper's rates.
    #[config(default = true)]
    pub relative_step: bool,
    /// Whether steps are multiplied by the root mean square of the parameter.
    #[config(default = true)]
    pub scale_parameter: bool,
    /// Added to squared gradients.
    #[config(default = 1e-30)]
    pub epsilon_1: f64,
    /// Smallest scale of a parameter.
    #[config(default = 1e-3)]
    pub epsilon_2: f64,
}

impl AdafactorConfig {
    /// The settings that programs use: the rate follows the schedule, as in trax.
    pub fn usual() -> Self {
        Self::new().with_relative_step(false)
    }

    /// The optimizer, before its first step.
    pub fn init<B: AutodiffBackend, M: AutodiffModule<B>>(
        &self,
    ) -> OptimizerAdaptor<Adafactor, M, B> {
        Adafactor { config: *self }.into()
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        super::decay_rate("optimizer.beta_1", self.beta_1.unwrap_or(0.0))?;
        for (field, value) in [
            ("optimizer.decay_exponent", self.decay_exponent),
            ("optimizer.clip_threshold", self.clip_threshold),
            ("optimizer.epsilon_1", self.epsilon_1),
            ("optimizer.epsilon_2", self.epsilon_2),
        ] {
            ConfigError::positive(field, value)?;
        }
        Ok(())
    }
}

/// The optimizer of [`AdafactorConfig`].
///
/// For a tensor with at least two dimensions, the mean of squared gradients is stored as means over
/// the last and over the second to last dimension: `m + n` numbers for `[m, n]`.
#[derive(Debug, Clone)]
pub struct Adafactor {
    config: AdafactorConfig,
}

/// The state of [`Adafactor`] for a parameter.
#[derive(Record, Clone)]
pub struct AdafactorState<B: Backend, const D: usize> {
    /// Steps that are done.
    pub steps: usize,
    /// Mean of squared gradients.
    pub second_moment: SecondMoment<B, D>,
    /// Mean of updates, if one is kept.
    pub first_moment: Option<Tensor<B, D>>,
}

/// A decaying mean of squared gradients.
#[derive(Record, Clone)]
pub enum SecondMoment<B: Backend, const D: usize> {
    /// As a product of rows and columns.
    Factored(Factored<B, D>),
    /// Of each element: for tensors of one dimension.
    Full(Tensor<B, D>),
}

/// The rank-one approximation of a non-negative matrix.
#[derive(Record, Clone)]
pub struct Factored<B: Backend, const D: usize> {
    /// Means over the last dimension: `[.., m, 1]`.
    pub rows: Tensor<B, D>,
    /// Means over the second to last: `[.., 1, n]`.
    pub columns: Tensor<B, D>,
}

impl<B: Backend, const D: usize> SecondMoment<B, D> {
    /// The second moment of a single step.
    fn new(squares: Tensor<B, D>) -> Self {
        if D < 2 {
            return Self::Full(squares);
        }
        Self::Factored(Factored {
            rows: squares.clone().mean_dim(D - 1),
            columns: squares.mean_dim(D - 2),
        })
    }

    /// The mean of the old value, with weight `decay`, and a new one.
    fn mixed(self, new: Self, decay: f64) -> Self {
        let mix = |old: Tensor<B, D>, new: Tensor<B, D>| old * decay + new * (1.0 - decay);
        match (self, new) {
            (Self::Factored(old), Self::Factored(new)) => Self::Factored(Factored {
                rows: mix(old.rows, new.rows),
                columns: mix(old.columns, new.columns),
            }),
            (Self::Full(old), Self::Full(new)) => Self::Full(mix(old, new)),
            _ => unreachable!("the kind follows from the number of dimensions"),
        }
    }

    /// Divides a gradient by the root of its mean square.
    fn normalize(&self, gradient: Tensor<B, D>) -> Tensor<B, D> {
        match self {
            Self::Factored(Factored { rows, columns }) => {
                // Two separate divisions: the product could underflow.
                let mean = rows.clone().mean_dim(D - 2);
                gradient / (rows.clone() / mean).sqrt() / columns.clone().sqrt()
            }
            Self::Full(squares) => gradient / squares.clone().sqrt(),
        }
    }

    fn on_device(self, device: &B::Device) -> Self {
        match self {
            Self::Factored(Factored { rows, columns }) => Self::Factored(Factored {
                rows: rows.to_device(device),
                columns: columns.to_device(device),
            }),
            Self::Full(squares) => Self::Full(squares.to_device(device)),
        }
    }
}

/// Root mean square, with as many dimensions as the tensor, for broadcasting.
fn root_mean_square<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Tensor<B, D> {
    tensor.square().mean().sqrt().reshape([1; D])
}

impl<B: Backend> SimpleOptimizer<B> for Adafactor {
    type State<const D: usize> = AdafactorState<B, D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<B, D>,
        grad: Tensor<B, D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<B, D>, Option<Self::State<D>>) {
        let config = &self.config;
        let steps = 1 + state.as_ref().map_or(0, |state| state.steps);
        let t = steps as f64;
        let (old, first_moment) = match state {
            Some(state) => (Some(state.second_moment), state.first_moment),
            None => (None, None),
        };

        let new = SecondMoment::new(grad.clone().square() + config.epsilon_1);
        let second_moment = match old {
            Some(old) => old.mixed(new, 1.0 - t.powf(-config.decay_exponent)),
            None => new,
        };
        let update = second_moment.normalize(grad);
        let excess = root_mean_square(update.clone()) / config.clip_threshold;
        let update = update / excess.clamp_min(1.0);

        let rate = match config.relative_step {
            true => lr * LARGEST_RELATIVE_STEP.min(t.sqrt().recip()),
            false => lr,
        };
        let update = match config.scale_parameter {
            true => {
                let scale = root_mean_square(tensor.clone()).clamp_min(config.epsilon_2);
                update * (scale * rate)
            }
            false => update * rate,
        };
        let (update, first_moment) = match config.beta_1 {
            Some(beta) => {
                let new = update * (1.0 - beta);
                let mean = match first_moment {
                    Some(old) => old * beta + new,
                    None => new,
                };
                (mean.clone(), Some(mean))
            }
            None => (update, None),
        };
        let state = AdafactorState {
            steps,
            second_moment,
            first_moment,
        };
        (tensor - update, Some(state))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &B::Device) -> Self::State<D> {
        AdafactorState {
            steps: state.steps,
            second_moment: state.second_moment.on_device(device),
            first_moment: state.first_moment.map(|mean| mean.to_device(device)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;
    use burn_flex::Flex;

    const ROWS: usize = 3;
    const COLUMNS: usize = 5;

    /// Some gradients and weights of very different sizes.
    fn numbers(seed: usize, n: usize) -> Vec<f64> {
        let number = |i: usize| {
            let wave = (1.7 * (i + 31 * seed) as f64).sin();
            wave * 10f64.powi((i + seed) as i32 % 4 - 2)
        };
        (0..n).map(number).collect()
    }

    /// Algorithms 4 to 6 of the paper on plain numbers, with sums where the code has means: the
    /// weights after some steps. 0 `columns`: of a vector.
    fn by_the_paper(config: AdafactorConfig, columns: usize, n: usize, steps: usize) -> Vec<f64> {
        let mut x = numbers(0, n);
        let rows = n.checked_div(columns).unwrap_or(0);
        let (mut r, mut c) = (vec![0.0; rows], vec![0.0; columns]);
        let (mut v, mut m) = (vec![0.0; n], vec![0.0; n]);
        let rms = |values: &[f64]| {
            (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt()
        };
        for step in 1..=steps {
            let t = step as f64;
            let beta_2 = 1.0 - t.powf(-config.decay_exponent);
            let g = numbers(step, n);
            let square = |i: usize| g[i] * g[i] + config.epsilon_1;
            let estimate: Vec<f64> = if columns > 0 {
                for (i, r) in r.iter_mut().enumerate() {
                    let sum: f64 = (0..columns).map(|j| square(i * columns + j)).sum();
                    *r = beta_2 * *r + (1.0 - beta_2) * sum;
                }
                for (j, c) in c.iter_mut().enumerate() {
                    let sum: f64 = (0..rows).map(|i| square(i * columns + j)).sum();
                    *c = beta_2 * *c + (1.0 - beta_2) * sum;
                }
                let total: f64 = r.iter().sum();
                (0..n)
                    .map(|i| r[i / columns] * c[i % columns] / total)
                    .collect()
            } else {
                for (i, v) in v.iter_mut().enumerate() {
                    *v = beta_2 * *v + (1.0 - beta_2) * square(i);
                }
                v.clone()
            };
            let u: Vec<f64> = (0..n).map(|i| g[i] / estimate[i].sqrt()).collect();
            let clip = f64::max(1.0, rms(&u) / config.clip_threshold);
            let relative = if config.relative_step {
                0.01f64.min(1.0 / t.sqrt())
            } else {
                1.0
            };
            let scale = if config.scale_parameter {
                config.epsilon_2.max(rms(&x))
            } else {
                1.0
            };
            for i in 0..n {
                let update = relative * scale * RATE * u[i] / clip;
                let beta_1 = config.beta_1.unwrap_or(0.0);
                m[i] = beta_1 * m[i] + (1.0 - beta_1) * update;
                x[i] -= m[i];
            }
        }
        x
    }

    const RATE: f64 = 0.7;
    const STEPS: usize = 7;

    fn tensor<const D: usize>(values: Vec<f64>, shape: [usize; D]) -> Tensor<Flex, D> {
        Tensor::from_data(
            TensorData::new(values, shape).convert::<f32>(),
            &Default::default(),
        )
    }

    fn steps<const D: usize>(
        config: AdafactorConfig,
        shape: [usize; D],
    ) -> (Tensor<Flex, D>, AdafactorState<Flex, D>) {
        let n = shape.iter().product();
        let optimizer = Adafactor { config };
        let (mut x, mut state) = (tensor(numbers(0, n), shape), None);
        for step in 1..=STEPS {
            (x, state) = optimizer.step(RATE, x, tensor(numbers(step, n), shape), state);
        }
        (x, state.expect("steps were done"))
    }

    fn assert_close<const D: usize>(found: Tensor<Flex, D>, expected: &[f64]) {
        for (found, expected) in found.into_data().iter::<f64>().zip(expected) {
            let error = (found - expected).abs();
            assert!(
                error < 1e-5 * (1.0 + expected.abs()),
                "{found} for {expected}"
            );
        }
    }

    fn configs() -> [AdafactorConfig; 4] {
        let config = AdafactorConfig::new();
        [
            config,
            config.with_relative_step(false).with_clip_threshold(0.5),
            config.with_scale_parameter(false).with_beta_1(Some(0.9)),
            config.with_relative_step(false).with_decay_exponent(0.5),
        ]
    }

    #[test]
    fn steps_of_a_matrix_are_the_papers() {
        for config in configs() {
            let expected = by_the_paper(config, COLUMNS, ROWS * COLUMNS, STEPS);
            assert_close(steps(config, [ROWS, COLUMNS]).0, &expected);
        }
    }

    #[test]
    fn steps_of_a_vector_are_the_papers() {
        for config in configs() {
            let expected = by_the_paper(config, 0, COLUMNS, STEPS);
            assert_close(steps(config, [COLUMNS]).0, &expected);
        }
    }

    #[test]
    fn matrix_is_remembered_by_its_sides() {
        let (_, state) = steps(AdafactorConfig::new(), [ROWS, COLUMNS]);
        let SecondMoment::Factored(Factored { rows, columns }) = state.second_moment else {
            panic!("a matrix has two dimensions");
        };
        let numbers = rows.shape().num_elements() + columns.shape().num_elements();
        assert_eq!(numbers, ROWS + COLUMNS);
        assert!(state.first_moment.is_none());
    }

    #[test]
    fn no_gradient_is_no_step() {
        let config = AdafactorConfig::new();
        let optimizer = Adafactor { config };
        let x = tensor(numbers(0, 6), [2, 3]);
        let (after, _) = optimizer.step(RATE, x.clone(), x.zeros_like(), None);
        after.into_data().assert_eq(&x.into_data(), true);
    }
}
