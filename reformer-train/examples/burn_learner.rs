//! A Reformer in Burn's own learner, as any model of Burn: learns to count.
//!
//!     cargo run --release -p reformer-train --example burn_learner
//!
//! Checkpoints, metrics and the dashboard are Burn's. `reformer_train::Run` adds to that: a resumed run that
//! ends with the same bits, and a page with metrics of LSH attention.

use burn::data::dataloader::DataLoaderBuilder;
use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::optim::AdamConfig;
use burn::record::CompactRecorder;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use burn::train::metric::{Adaptor, ItemLazy, LossInput, LossMetric};
use burn::train::{InferenceStep, Learner, SupervisedTraining, TrainOutput, TrainStep};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use reformer_core::kernels::{ReformerBackend, TrainBackend};
use reformer_core::model::{Loss as _, ReformerConfig, ReformerLm, ReformerLmConfig, Trainable};
use reformer_core::{Key, Pass};
use reformer_train::task::StepCounter;

const LENGTH: usize = 64;

/// A model, and a counter that numbers its training steps.
#[derive(Module, Debug)]
struct Counting<B: Backend> {
    lm: ReformerLm<B>,
    #[module(skip)]
    steps: StepCounter,
}

/// The loss of a batch.
struct Loss<B: Backend>(Tensor<B, 1>);

impl<B: TrainBackend> TrainStep for Counting<B> {
    type Input = Tensor<B, 2, Int>;
    type Output = Loss<B::InnerBackend>;

    fn step(&self, sequences: Self::Input) -> TrainOutput<Self::Output> {
        let [tokens, targets] = parts(sequences);
        let pass = Pass::train(Key::new(42).fold(self.steps.next()));
        let (loss, grads) = self.lm.gradients((tokens, targets), pass);
        let item = Loss(loss.loss);
        TrainOutput { grads, item }
    }
}

impl<B: ReformerBackend> InferenceStep for Counting<B> {
    type Input = Tensor<B, 2, Int>;
    type Output = Loss<B>;

    fn step(&self, sequences: Self::Input) -> Loss<B> {
        let [tokens, targets] = parts(sequences);
        Loss(self.lm.loss((tokens, targets), &Pass::eval()).loss)
    }
}

/// Inputs and targets of next-token prediction.
fn parts<B: Backend>(sequences: Tensor<B, 2, Int>) -> [Tensor<B, 2, Int>; 2] {
    [0, 1].map(|first| sequences.clone().narrow(1, first, LENGTH))
}

impl<B: Backend> ItemLazy for Loss<B> {
    type ItemSync = Loss<Flex>;

    fn sync(self) -> Loss<Flex> {
        Loss(Tensor::from_data(self.0.into_data(), &Default::default()))
    }
}

impl<B: Backend> Adaptor<LossInput<B>> for Loss<B> {
    fn adapt(&self) -> LossInput<B> {
        LossInput::new(self.0.clone())
    }
}

/// Sequences that count modulo 10, each from a different start.
#[derive(Clone)]
struct Sequences;

impl<B: Backend> Batcher<B, i32, Tensor<B, 2, Int>> for Sequences {
    fn batch(&self, starts: Vec<i32>, device: &B::Device) -> Tensor<B, 2, Int> {
        let n = starts.len();
        let numbers = starts
            .iter()
            .flat_map(|start| (0..=LENGTH as i32).map(move |at| (start + at) % 10));
        Tensor::from_data(TensorData::new(numbers.collect(), [n, LENGTH + 1]), device)
    }
}

fn main() {
    let device = Default::default();
    let folder = std::env::temp_dir().join("reformer-counts");
    let starts = |n| InMemDataset::new((0..n).collect());
    let train = DataLoaderBuilder::new(Sequences)
        .batch_size(4)
        .shuffle(1)
        .build(starts(200));
    let valid = DataLoaderBuilder::new(Sequences)
        .batch_size(4)
        .build(starts(20));

    let lm = ReformerLmConfig::new(ReformerConfig::new(10, 32, 2)).init::<Autodiff<Flex>>(&device);
    let steps = StepCounter::default();
    let learner = Learner::new(
        Counting {
            lm,
            steps: steps.clone(),
        },
        AdamConfig::new().init(),
        3e-3,
    );
    let trained = SupervisedTraining::new(&folder, train, valid)
        .metric_train_numeric(LossMetric::new())
        .metric_valid_numeric(LossMetric::new())
        .with_file_checkpointer(CompactRecorder::new())
        .num_epochs(4)
        .launch(learner);

    let [tokens, targets] = parts(Sequences.batch(vec![7], &device));
    let loss = trained
        .model
        .lm
        .loss((tokens, targets), &Pass::eval())
        .loss
        .into_scalar();
    println!(
        "{} steps, loss {loss:.3}; checkpoints are in {}",
        steps.next(),
        folder.display()
    );
    assert!(loss < 0.5, "it can count");
}

#[test]
fn a_model_learns_in_burns_learner() {
    main();
}
