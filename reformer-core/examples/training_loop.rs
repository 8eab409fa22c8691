//! A custom training loop: learns to count, and stops when it can.
//!
//!     cargo run --release -p reformer-core --example training_loop

use burn::module::AutodiffModule;
use burn::optim::{AdamConfig, Optimizer};
use burn::tensor::{Int, Tensor, TensorData};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use reformer_core::generation::{
    DecodingConfig, GenerationError, LmDecoder, SamplerConfig, generate,
};
use reformer_core::model::{ReformerConfig, ReformerLmConfig, Trainable};
use reformer_core::{Key, Pass};

type B = Autodiff<Flex>;

/// Sequences that count modulo 10, each with a different start: `[4, 65]`.
fn batch(step: u64) -> Tensor<B, 2, Int> {
    let numbers: Vec<i32> = (0..4u64)
        .flat_map(|row| (0..65).map(move |at| ((step * 7 + row * 3 + at) % 10) as i32))
        .collect();
    Tensor::from_data(TensorData::new(numbers, [4, 65]), &Default::default())
}

fn main() -> Result<(), GenerationError> {
    let device = Default::default();
    let config = ReformerLmConfig::new(ReformerConfig::new(10, 32, 2));
    let mut model = config.init::<B>(&device);
    let mut optimizer = AdamConfig::new().init();

    for step in 0..200 {
        let sequences = batch(step);
        let tokens = sequences.clone().slice([0..4, 0..64]);
        let targets = sequences.slice([0..4, 1..65]);
        // All random numbers of a step follow from the seed and the step number.
        let pass = Pass::train(Key::new(42).fold(step));
        let (loss, gradients) = model.gradients((tokens, targets), pass);
        model = optimizer.step(3e-3, model, gradients);
        let loss = loss.loss.into_scalar();
        if step % 20 == 0 {
            println!("step {step}: loss {loss:.3}");
        }
        if loss < 0.05 {
            println!("step {step}: loss {loss:.3}, enough");
            break;
        }
    }

    let model = model.valid();
    let decoding = DecodingConfig::new(64);
    let (mut decoder, first) = LmDecoder::prefill(&model, &[vec![3, 4, 5]], &decoding)?;
    let mut counted = Vec::new();
    let greedy = SamplerConfig::greedy().init(Key::new(0))?;
    generate(&mut decoder, first, &mut [greedy], 12, |_, token| {
        counted.push(token);
        Ok::<_, GenerationError>(std::ops::ControlFlow::Continue(()))
    })?;
    println!("3 4 5 goes on: {counted:?}");
    Ok(())
}
