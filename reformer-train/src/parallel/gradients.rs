//! Gradients and losses as plain numbers, on their way between nodes.

use burn::module::{AutodiffModule, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use reformer_core::model::LmLoss;

/// What a node, or all together, have in a step: sums over targets.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Contribution {
    /// Negative log-likelihood.
    pub(super) nll: f64,
    pub(super) n_correct: f64,
    pub(super) n_targets: f64,
    /// The largest one; NaN if there is none.
    pub(super) drift: f64,
    /// Gradients of all parameters, in the order of the module, times the number of targets.
    pub(super) values: Vec<f32>,
}

impl Contribution {
    /// From the mean loss of a batch and its gradients. Waits for the device.
    pub(super) fn new<B: AutodiffBackend, M: AutodiffModule<B>>(
        loss: &LmLoss<B::InnerBackend>,
        gradients: &GradientsParams,
        module: &M,
    ) -> Self {
        let n_targets = number(&loss.n_targets);
        let mut flatten = Flatten {
            gradients,
            factor: n_targets as f32,
            values: Vec::new(),
        };
        module.visit(&mut flatten);
        Self {
            nll: number(&loss.loss) * n_targets,
            n_correct: number(&loss.n_correct),
            n_targets,
            drift: loss.drift.as_ref().map_or(f64::NAN, number),
            values: flatten.values,
        }
    }

    /// Back to means on a device. `gradients` are those that a contribution was made of.
    pub(super) fn into_means<B: AutodiffBackend, M: AutodiffModule<B>>(
        self,
        gradients: GradientsParams,
        module: &M,
        device: &B::Device,
    ) -> (LmLoss<B::InnerBackend>, GradientsParams) {
        let one = |value: f64| Tensor::from_data([value as f32], device);
        // The sums over no target are 0, and so are their means.
        let divisor = self.n_targets.max(1.0);
        let loss = LmLoss {
            loss: one(self.nll / divisor),
            n_correct: one(self.n_correct),
            n_targets: one(self.n_targets),
            drift: (!self.drift.is_nan()).then(|| one(self.drift)),
        };
        let mut rebuild = Rebuild {
            gradients,
            divisor: divisor as f32,
            values: &self.values,
        };
        module.visit(&mut rebuild);
        (loss, rebuild.gradients)
    }

    /// Adds another one with as many gradients.
    pub(super) fn add(&mut self, other: &Self) {
        self.nll += other.nll;
        self.n_correct += other.n_correct;
        self.n_targets += other.n_targets;
        self.drift = self.drift.max(other.drift);
        for (sum, value) in self.values.iter_mut().zip(&other.values) {
            *sum += value;
        }
    }

    fn numbers(&self) -> [f64; 4] {
        [self.nll, self.n_correct, self.n_targets, self.drift]
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let numbers = self.numbers();
        let mut bytes = Vec::with_capacity(size_of_val(&numbers) + 4 * self.values.len());
        bytes.extend(numbers.into_iter().flat_map(f64::to_le_bytes));
        bytes.extend(self.values.iter().flat_map(|value| value.to_le_bytes()));
        bytes
    }

    /// None if the bytes are no contribution.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, values) = bytes.split_at_checked(4 * size_of::<f64>())?;
        let (values, rest) = values.as_chunks::<4>();
        let (numbers, _) = numbers.as_chunks::<8>();
        let &[nll, n_correct, n_targets, drift] = numbers else {
            return None;
        };
        rest.is_empty().then(|| Self {
            nll: f64::from_le_bytes(nll),
            n_correct: f64::from_le_bytes(n_correct),
            n_targets: f64::from_le_bytes(n_targets),
            drift: f64::from_le_bytes(drift),
            values: values.iter().copied().map(f32::from_le_bytes).collect(),
        })
    }
}

fn number<B: Backend>(tensor: &Tensor<B, 1>) -> f64 {
    tensor.to_data().iter::<f64>().next().unwrap_or(f64::NAN)
}

struct Flatten<'a> {
    gradients: &'a GradientsParams,
    factor: f32,
    values: Vec<f32>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Flatten<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = self.gradients.get::<B::InnerBackend, D>(param.id) {
            let data = gradient.into_data();
            let scaled = data.iter::<f32>().map(|value| value * self.factor);
            self.values.extend(scaled);
        }
    }
}

struct Rebuild<'a> {
    gradients: GradientsParams,
    divisor: f32,
    /// Those of the parameters still to come.
    values: &'a [f32],
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Rebuild<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(old) = self.gradients.remove::<B::InnerBackend, D>(param.id) {
            let shape = old.dims();
            let (values, rest) = self.values.split_at(shape.iter().product());
            self.values = rest;
            let means: Vec<f32> = values.iter().map(|value| value / self.divisor).collect();
            let data = TensorData::new(means, shape);
            let new = Tensor::<B::InnerBackend, D>::from_data(data, &old.device());
            self.gradients.register(param.id, new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    type B = Autodiff<Flex>;

    fn one(value: f32) -> Tensor<Flex, 1> {
        Tensor::from_data([value], &Default::default())
    }

    fn loss(mean: f32, n_targets: f32, drift: Option<f32>) -> LmLoss<Flex> {
        LmLoss {
            loss: one(mean),
            n_correct: one(2.0),
            n_targets: one(n_targets),
            drift: drift.map(one),
        }
    }

    /// Gradients of the weight, which has no bias beside it.
    fn gradients(linear: &Linear<B>, values: [f32; 2]) -> GradientsParams {
        let mut gradients = GradientsParams::new();
        let values = Tensor::<Flex, 2>::from_data([values], &Default::default());
        gradients.register(linear.weight.id, values);
        gradients
    }

    #[test]
    fn means_over_two_nodes_weigh_each_target_the_same() {
        let device = Default::default();
        let linear = LinearConfig::new(1, 2).init::<B>(&device);
        let of = |mean, n_targets, drift, values| {
            let gradients = gradients(&linear, values);
            Contribution::new::<B, _>(&loss(mean, n_targets, drift), &gradients, &linear)
        };
        let mut sum = of(1.0, 30.0, Some(0.5), [1.0, -2.0]);
        sum.add(&of(4.0, 10.0, None, [5.0, 2.0]));
        let sum = Contribution::from_bytes(&sum.to_bytes()).unwrap();
        let old = gradients(&linear, [0.0; 2]);
        let (loss, means) = sum.into_means::<B, _>(old, &linear, &device);
        assert_eq!(number(&loss.loss), 1.75);
        assert_eq!(
            (number(&loss.n_correct), number(&loss.n_targets)),
            (4.0, 40.0)
        );
        assert_eq!(loss.drift.as_ref().map(number), Some(0.5));
        let means = means.get::<Flex, 2>(linear.weight.id).unwrap();
        assert_eq!(means.into_data().to_vec::<f32>().unwrap(), [2.0, -1.0]);
    }

    #[test]
    fn what_is_cut_off_is_no_contribution() {
        let whole = Contribution {
            values: vec![1.0, 2.0],
            ..Contribution::default()
        };
        let bytes = whole.to_bytes();
        assert_eq!(Contribution::from_bytes(&bytes), Some(whole));
        for length in [0, 31, bytes.len() - 1] {
            assert_eq!(Contribution::from_bytes(&bytes[..length]), None);
        }
    }
}
