//! A run of a model of your own, here not a Reformer: checkpoints, a report and a resume to the bit.
//!
//!     cargo run --release -p reformer-train --example own_model

use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig, PaddingConfig1d};
use burn::prelude::*;
use reformer_core::prelude::*;
use reformer_core::{burn_autodiff::Autodiff, burn_flex::Flex};
use reformer_train::*;

#[derive(Config, Debug)]
struct ConvLmConfig {
    d_model: usize,
    /// Bytes from which the next one is predicted.
    reach: usize,
}

#[derive(Module, Debug)]
struct ConvLm<B: Backend> {
    embedding: Embedding<B>,
    conv: Conv1d<B>,
    output: Linear<B>,
}

impl<B: ReformerBackend> Loss<B> for ConvLm<B> {
    type Batch = Batch<B>;

    fn loss(&self, batch: Batch<B>, _pass: &Pass<B>) -> LossOutput<B> {
        let batch = batch.into_tokens();
        let x = self.embedding.forward(batch.tokens).swap_dims(1, 2);
        let hidden = self.conv.forward(x).swap_dims(1, 2).tanh();
        let logits = self.output.forward(hidden).flatten(0, 1);
        Labels::Class(batch.targets.flatten(0, 1)).loss(logits)
    }
}

impl<B: TrainBackend> Trainable<B> for ConvLm<B> {}
impl<B: TrainBackend> RunModel<B> for ConvLm<B> {
    fn init(config: &ModelConfig, device: &B::Device) -> Result<Self, TrainError> {
        let ConvLmConfig { d_model, reach } = config.own()?.settings()?;
        let only_past = PaddingConfig1d::Explicit(reach - 1, 0);
        let conv = Conv1dConfig::new(d_model, d_model, reach).with_padding(only_past);
        Ok(Self {
            embedding: EmbeddingConfig::new(256, d_model).init(device),
            conv: conv.init(device),
            output: LinearConfig::new(d_model, 256).init(device),
        })
    }
}

/// Trains a run to its end, and returns the held-out loss.
fn train(run: &Run) -> Result<f64, TrainError> {
    type Host = Autodiff<Flex>;
    let device = Default::default();
    let step = run.resume_point_of::<Host, ConvLm<_>>(&device)?.step;
    let outcome = run.train_model::<_, ConvLm<Host>, _>(&[device], step, TrainOptions::silent())?;
    Ok(outcome.valid.last().expect("it is evaluated").loss())
}

fn main() -> Result<(), TrainError> {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let model = OwnModelConfig::new("convolution", 256, &ConvLmConfig::new(32, 4));
    let config = TrainConfig::new(model.into(), DataConfig::Sample).with_steps_per_epoch(20);
    let config = config.with_window_length(64).with_eval_windows(Some(16));
    let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(name));
    let loss = train(&Run::create(config.clone().with_steps(40), whole)?)?;
    train(&Run::create(config.with_steps(20), &parts)?)?;
    let more = ResumeOptions::new().with_steps(Some(40));
    let resumed = train(&Run::resume_with(&parts, &more)?)?;
    assert_eq!(loss.to_bits(), resumed.to_bits());
    println!("{loss} nats per byte, whole or in parts");
    Ok(())
}

#[test]
fn resumed_run_ends_with_the_same_loss() {
    main().unwrap();
}
