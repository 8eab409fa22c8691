//! Two arbitrary functions as a reversible block: trains a stack of 50 in the memory of one.
//!
//!     cargo run --release -p reformer-core --example reversible

use burn::module::{AutodiffModule, Module};
use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig1d};
use burn::tensor::activation::tanh;
use burn::tensor::backend::Backend;
use burn::tensor::{Distribution, Int, Tensor};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use reformer_core::Pass;
use reformer_core::kernels::ReformerBackend;
use reformer_core::reversible::{GradientSum, Mode, ReversibleBlock, Tape};

/// F is a convolution over the sequence, G a linear layer.
#[derive(Module, Debug)]
struct ConvBlock<B: Backend> {
    conv: Conv1d<B>,
    linear: Linear<B>,
}

impl<B: ReformerBackend> ReversibleBlock<B> for ConvBlock<B> {
    fn f(&self, x: Tensor<B, 3>, _pass: &Pass<B>) -> (Tensor<B, 3>, Option<Tensor<B, 4, Int>>) {
        let y = self.conv.forward(x.swap_dims(1, 2)).swap_dims(1, 2);
        (tanh(y), None)
    }

    fn g(&self, x: Tensor<B, 3>, _pass: &Pass<B>) -> Tensor<B, 3> {
        tanh(self.linear.forward(x))
    }
}

type B = Autodiff<Flex>;

fn main() {
    let device = Default::default();
    let d = 16;
    let blocks: Vec<ConvBlock<B>> = (0..50)
        .map(|_| ConvBlock {
            conv: Conv1dConfig::new(d, d, 3)
                .with_padding(PaddingConfig1d::Same)
                .init(&device),
            linear: LinearConfig::new(d, d).init(&device),
        })
        .collect();

    // Forward keeps only the output, with sums rounded to a grid, so that inverting is exact.
    let x = Tensor::<Flex, 3>::random([2, 100, d], Distribution::Default, &device);
    let mode = Mode::Exact { fraction_bits: 16 };
    let tape = Tape::record(&blocks.valid(), [x.clone(), x.clone()], Pass::eval(), mode);
    let [y1, y2] = tape.output();
    println!(
        "loss: {:.4}",
        (y1.clone() + y2.clone()).square().mean().into_scalar()
    );

    // The tape turns the gradient of the loss into gradients of all parameters.
    let gradient = (y1 + y2) * (2.0 / (2 * 100 * d) as f64);
    let mut sum = GradientSum::new();
    let input = tape.backward::<B, _>(&blocks, [gradient.clone(), gradient], &mut sum);
    let drift = (input.streams[0].clone() - mode_grid(x))
        .abs()
        .max()
        .into_scalar();
    println!(
        "gradients of {} tensors, input off by {drift:e}",
        sum.into_params().len()
    );
    assert_eq!(drift, 0.0);
}

/// The initial value of the tape's streams: the input, rounded to the grid.
fn mode_grid(x: Tensor<Flex, 3>) -> Tensor<Flex, 3> {
    x.mul_scalar(65_536.0).round().div_scalar(65_536.0)
}
