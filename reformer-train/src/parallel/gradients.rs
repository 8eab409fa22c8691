//! Summing gradients over processes.

use std::ops::Range;

use burn::module::{AutodiffModule, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{DType, Tensor, TensorData};
use reformer_core::kernels::TrainBackend;

use super::group::Group;
use super::on_device::{cast, found};
use crate::error::ParallelError;

/// Values that are sent at a time through host memory: enough to make the start-up cost of a message
/// small, few enough not to be a second copy of a large model.
const PORTION: usize = 16 << 20;

/// How the gradients of a run are summed.
#[derive(Debug)]
pub(super) struct Adder {
    /// Whether they are sent as `bf16`.
    as_half: bool,
    /// Whether they stay on GPUs; unknown before the first step.
    on_device: Option<bool>,
    own: Vec<f32>,
    sum: Vec<f32>,
}

impl Adder {
    pub(super) fn new(as_half: bool) -> Self {
        Self {
            as_half,
            on_device: None,
            own: Vec::new(),
            sum: Vec::new(),
        }
    }

    /// The sums over all processes of a module's gradients. There must be no other reference to
    /// `gradients`, which are overwritten in place on a GPU.
    pub(super) fn sum<B, M>(
        &mut self,
        group: &Group,
        module: &M,
        gradients: GradientsParams,
    ) -> Result<GradientsParams, ParallelError>
    where
        B: TrainBackend,
        M: AutodiffModule<B>,
    {
        let is_on_device = match self.on_device {
            Some(known) => known,
            None => {
                let device =
                    found(module, &gradients).and_then(|found| Some(found.first()?.device));
                *self.on_device.insert(group.reaches_device(device)?)
            }
        };
        match is_on_device {
            true => self.sum_on_device(group, module, gradients),
            false => self.sum_on_host(group, module, gradients),
        }
    }

    fn sum_on_device<B, M>(
        &self,
        group: &Group,
        module: &M,
        gradients: GradientsParams,
    ) -> Result<GradientsParams, ParallelError>
    where
        B: TrainBackend,
        M: AutodiffModule<B>,
    {
        let as_type = |gradients, dtype| match self.as_half {
            true => cast(module, gradients, dtype),
            false => gradients,
        };
        let gradients = as_type(gradients, DType::BF16);
        let buffers =
            found(module, &gradients).expect("they are where they were in the first step");
        group.sum_on_device(&buffers)?;
        Ok(as_type(gradients, DType::F32))
    }

    fn sum_on_host<B, M>(
        &mut self,
        group: &Group,
        module: &M,
        mut gradients: GradientsParams,
    ) -> Result<GradientsParams, ParallelError>
    where
        B: AutodiffBackend,
        M: AutodiffModule<B>,
    {
        let mut lengths = Lengths {
            gradients: &gradients,
            found: Vec::new(),
        };
        module.visit(&mut lengths);
        for range in portions(&lengths.found, PORTION) {
            self.own.clear();
            module.visit(&mut Flatten {
                gradients: &gradients,
                range: Numbered::new(&range),
                values: &mut self.own,
            });
            self.sum.resize(self.own.len(), 0.0);
            group.sum(&self.own, &mut self.sum, self.as_half)?;
            module.visit(&mut Rebuild {
                gradients: &mut gradients,
                range: Numbered::new(&range),
                values: &self.sum,
            });
        }
        Ok(gradients)
    }
}

/// Splits a sequence into ranges of at most `most` values in total. A longer element is a range by itself.
pub(super) fn portions(lengths: &[usize], most: usize) -> Vec<Range<usize>> {
    let mut portions: Vec<Range<usize>> = Vec::new();
    let mut n_values = 0;
    for (number, length) in lengths.iter().enumerate() {
        match portions.last_mut() {
            Some(last) if n_values + length <= most => last.end = number + 1,
            _ => {
                portions.push(number..number + 1);
                n_values = 0;
            }
        }
        n_values += length;
    }
    portions
}

/// Counts parameters and selects those of a range.
pub(super) struct Numbered<'a> {
    range: &'a Range<usize>,
    next: usize,
}

impl<'a> Numbered<'a> {
    pub(super) fn new(range: &'a Range<usize>) -> Self {
        Self { range, next: 0 }
    }

    /// Whether the next one is selected.
    pub(super) fn next(&mut self) -> bool {
        self.next += 1;
        self.range.contains(&(self.next - 1))
    }
}

/// Numbers of values of the gradients; 0 for parameters without one.
struct Lengths<'a> {
    gradients: &'a GradientsParams,
    found: Vec<usize>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Lengths<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let gradient = self.gradients.get::<B::InnerBackend, D>(param.id);
        let length = gradient.map_or(0, |gradient| gradient.shape().num_elements());
        self.found.push(length);
    }
}

struct Flatten<'a> {
    gradients: &'a GradientsParams,
    range: Numbered<'a>,
    values: &'a mut Vec<f32>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Flatten<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if self.range.next()
            && let Some(gradient) = self.gradients.get::<B::InnerBackend, D>(param.id)
        {
            extend(self.values, &gradient.into_data());
        }
    }
}

/// Appends the values of a tensor.
pub(super) fn extend(values: &mut Vec<f32>, data: &TensorData) {
    match data.as_slice::<f32>() {
        Ok(slice) => values.extend_from_slice(slice),
        Err(_) => values.extend(data.iter::<f32>()),
    }
}

struct Rebuild<'a> {
    gradients: &'a mut GradientsParams,
    range: Numbered<'a>,
    /// Values of the parameters that are not visited yet.
    values: &'a [f32],
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Rebuild<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if self.range.next()
            && let Some(old) = self.gradients.remove::<B::InnerBackend, D>(param.id)
        {
            let shape = old.dims();
            let (values, rest) = self.values.split_at(shape.iter().product());
            self.values = rest;
            let data = TensorData::new(values.to_vec(), shape);
            let new = Tensor::<B::InnerBackend, D>::from_data(data, &old.device());
            self.gradients.register(param.id, new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;
    use proptest::prelude::*;

    type B = Autodiff<Flex>;

    #[test]
    fn gradients_come_back_to_where_they_were() {
        let device = Default::default();
        let linear = LinearConfig::new(2, 3).init::<B>(&device);
        let bias = linear.bias.as_ref().unwrap().id;
        let mut gradients = GradientsParams::new();
        let weight = Tensor::<Flex, 2>::from_data([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], &device);
        gradients.register(linear.weight.id, weight);
        gradients.register(bias, Tensor::<Flex, 1>::from_data([7.0, 8.0, 9.0], &device));
        let mut lengths = Lengths {
            gradients: &gradients,
            found: vec![],
        };
        ModuleVisit::<B>::of(&linear, &mut lengths);
        assert_eq!(lengths.found, [6, 3]);
        for range in [0..1, 1..2, 0..2] {
            let mut values = vec![];
            ModuleVisit::<B>::of(
                &linear,
                &mut Flatten {
                    gradients: &gradients,
                    range: Numbered::new(&range),
                    values: &mut values,
                },
            );
            let doubled: Vec<f32> = values.iter().map(|value| 2.0 * value).collect();
            ModuleVisit::<B>::of(
                &linear,
                &mut Rebuild {
                    gradients: &mut gradients,
                    range: Numbered::new(&range),
                    values: &doubled,
                },
            );
        }
        let weight = gradients.get::<Flex, 2>(linear.weight.id).unwrap();
        let weight = weight.into_data().to_vec::<f32>().unwrap();
        assert_eq!(weight, [4.0, 8.0, 12.0, 16.0, 20.0, 24.0]);
        let bias = gradients.get::<Flex, 1>(bias).unwrap();
        assert_eq!(
            bias.into_data().to_vec::<f32>().unwrap(),
            [28.0, 32.0, 36.0]
        );
        // Tensors on a CPU have no GPU address.
        assert_eq!(found::<B, _>(&linear, &gradients), None);
    }

    /// A visit with a fixed backend; the visitor itself is generic over backends.
    struct ModuleVisit<B>(std::marker::PhantomData<B>);

    impl<B: AutodiffBackend> ModuleVisit<B> {
        fn of<M: AutodiffModule<B>>(module: &M, visitor: &mut impl ModuleVisitor<B>) {
            module.visit(visitor);
        }
    }

    proptest! {
        #[test]
        fn portions_are_all_in_order_and_none_too_long(
            lengths in prop::collection::vec(0usize..50, 0..30),
            most in 1usize..100,
        ) {
            let portions = portions(&lengths, most);
            let numbers: Vec<usize> = portions.iter().cloned().flatten().collect();
            prop_assert_eq!(numbers, (0..lengths.len()).collect::<Vec<_>>());
            for portion in portions {
                let n_values: usize = lengths[portion.clone()].iter().sum();
                prop_assert!(n_values <= most || portion.len() == 1);
            }
        }
    }
}
