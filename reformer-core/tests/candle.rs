//! A training step on Candle, where every operation is the reference's, against that of flex.

#![allow(deprecated, clippy::unwrap_used)] // Burn will drop this backend.

use burn::module::AutodiffModule;
use burn::optim::{Optimizer, SgdConfig};
use burn::prelude::*;
use burn::record::{FullPrecisionSettings, NamedMpkBytesRecorder, Recorder};
use burn_autodiff::Autodiff;
use burn_candle::Candle;
use burn_flex::Flex;
use reformer_core::attention::{ExactUpTo, Window};
use reformer_core::prelude::*;

type Bytes = NamedMpkBytesRecorder<FullPrecisionSettings>;

fn config() -> ReformerLmConfig {
    let lsh = LshConfig::new()
        .with_window(Window::Bucket { len: 8 })
        .with_exact_up_to(ExactUpTo::Never);
    let stack = ReformerConfig::new(32, 16, 2).with_n_heads(2).with_lsh(lsh);
    ReformerLmConfig::new(stack)
}

/// Loss and logits before and after a step of gradient descent from these weights.
fn step<B: TrainBackend>(weights: Vec<u8>) -> Vec<f64> {
    let device = Default::default();
    let record = Recorder::<B>::load(&Bytes::default(), weights, &device).unwrap();
    let model = config().init::<B>(&device).load_record(record);
    let tokens: Vec<i32> = (0..60).map(|position| position % 7).collect();
    let tokens = Tensor::<B, 1, Int>::from_ints(&tokens[..], &device).reshape([1, 60]);
    let logits = |model: &ReformerLm<B>| {
        let logits = model.valid().forward(tokens.clone().inner(), &Pass::eval());
        logits.into_data().iter::<f64>().collect::<Vec<_>>()
    };
    let mut numbers = logits(&model);
    let batch = (tokens.clone(), tokens.clone());
    let (loss, gradients) = model.gradients(batch, Pass::train(Key::new(1)));
    numbers.push(loss.loss.into_scalar().elem());
    numbers.extend(logits(&SgdConfig::new().init().step(0.1, model, gradients)));
    numbers
}

#[test]
fn a_step_is_that_of_flex() {
    let model = config().init::<Flex>(&Default::default());
    let weights = Recorder::<Flex>::record(&Bytes::default(), model.into_record(), ()).unwrap();
    let expected = step::<Autodiff<Flex>>(weights.clone());
    let found = step::<Autodiff<Candle>>(weights);
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    }
}
