//! An attention layer of your own, in turn with the library's, in a reversible language model.
//!
//!     cargo run --release -p reformer-core --example own_attention

use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamConfig, Optimizer};
use burn::prelude::*;
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use reformer_core::prelude::*;

/// The mean of the values so far, whatever they are: average attention (Zhang et al., 2018).
#[derive(Module, Debug)]
struct AverageAttention<B: Backend> {
    value: Linear<B>,
    output: Linear<B>,
}

impl<B: ReformerBackend> AttentionLayer<B> for AverageAttention<B> {
    fn forward(&self, x: Tensor<B, 3>, _pass: &Pass<B>) -> Attended<B> {
        let n_seen = Tensor::<B, 1, Int>::arange(1..x.dims()[1] as i64 + 1, &x.device());
        let sums = self.value.forward(x).cumsum(1);
        self.output
            .forward(sums / n_seen.float().reshape([1, -1, 1]))
            .into()
    }
}

/// What the blocks of this model have.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
enum Layer<B: Backend> {
    Average(AverageAttention<B>),
    Library(Attention<B>),
}

impl<B: ReformerBackend> AttentionLayer<B> for Layer<B> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Attended<B> {
        match self {
            Self::Average(layer) => layer.forward(x, pass),
            Self::Library(layer) => layer.forward(x, pass),
        }
    }
}

fn main() {
    type B = Autodiff<Flex>;
    let device = Default::default();
    let (d_model, n_heads) = (32, 2);
    let local = LocalAttentionConfig::new(HeadsConfig::new(d_model, n_heads), LocalConfig::new());
    let linear = LinearConfig::new(d_model, d_model);
    let stack = ReformerConfig::new(64, d_model, 4).with_n_heads(n_heads);
    let mut model = ReformerLmConfig::new(stack).init_with::<B, _>(&device, |number| {
        if number % 2 == 0 {
            return Layer::Library(Attention::Local(local.init(&device)));
        }
        let (value, output) = (linear.init(&device), linear.init(&device));
        Layer::Average(AverageAttention { value, output })
    });

    // Sequences that repeat a token.
    let tokens = Tensor::<B, 1, Int>::arange(0..16, &device);
    let tokens = tokens.reshape([16, 1]).expand([16, 100]);
    let mut optimizer = AdamConfig::new().init();
    let mut losses = Vec::new();
    for step in 0..30 {
        let pass = Pass::train(Key::new(42).fold(step));
        let (loss, gradients) = model.gradients((tokens.clone(), tokens.clone()), pass);
        losses.push(loss.loss.into_scalar());
        model = optimizer.step(1e-2, model, gradients);
    }
    println!("loss: {:.3} -> {:.3} nats", losses[0], losses[29]);
    assert!(losses[29] < 0.1 * losses[0]);
}

#[test]
fn it_learns() {
    main();
}
