//! Several optimizers as one type, so that code that uses them is compiled once.

use burn::module::AutodiffModule;
use burn::optim::{GradientsParams, LearningRate, MultiGradientsParams, Optimizer};
use burn::record::{PrecisionSettings, Record};
use burn::tensor::backend::{AutodiffBackend, Backend};
use serde::{Deserialize, Serialize};

/// One of the optimizers, or its state, or the record of its state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum AnyOptimizer<A, S, F> {
    /// Adam's.
    Adam(A),
    /// Stochastic gradient descent's.
    Sgd(S),
    /// Adafactor's.
    Adafactor(F),
}

impl<A, S, F> AnyOptimizer<A, S, F> {
    /// The name of the variant.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Adam(_) => "Adam",
            Self::Sgd(_) => "Sgd",
            Self::Adafactor(_) => "Adafactor",
        }
    }
}

impl<B, A, S, F> Record<B> for AnyOptimizer<A, S, F>
where
    B: Backend,
    A: Record<B>,
    S: Record<B>,
    F: Record<B>,
{
    type Item<P: PrecisionSettings> = AnyOptimizer<A::Item<P>, S::Item<P>, F::Item<P>>;

    fn into_item<P: PrecisionSettings>(self) -> Self::Item<P> {
        match self {
            Self::Adam(record) => AnyOptimizer::Adam(record.into_item()),
            Self::Sgd(record) => AnyOptimizer::Sgd(record.into_item()),
            Self::Adafactor(record) => AnyOptimizer::Adafactor(record.into_item()),
        }
    }

    fn from_item<P: PrecisionSettings>(item: Self::Item<P>, device: &B::Device) -> Self {
        match item {
            AnyOptimizer::Adam(item) => Self::Adam(A::from_item(item, device)),
            AnyOptimizer::Sgd(item) => Self::Sgd(S::from_item(item, device)),
            AnyOptimizer::Adafactor(item) => Self::Adafactor(F::from_item(item, device)),
        }
    }
}

impl<M, B, A, S, F> Optimizer<M, B> for AnyOptimizer<A, S, F>
where
    M: AutodiffModule<B>,
    B: AutodiffBackend,
    A: Optimizer<M, B>,
    S: Optimizer<M, B>,
    F: Optimizer<M, B>,
{
    type Record = AnyOptimizer<A::Record, S::Record, F::Record>;

    fn step(&mut self, lr: LearningRate, module: M, grads: GradientsParams) -> M {
        match self {
            Self::Adam(optimizer) => optimizer.step(lr, module, grads),
            Self::Sgd(optimizer) => optimizer.step(lr, module, grads),
            Self::Adafactor(optimizer) => optimizer.step(lr, module, grads),
        }
    }

    fn step_multi(&mut self, lr: LearningRate, module: M, grads: MultiGradientsParams) -> M {
        match self {
            Self::Adam(optimizer) => optimizer.step_multi(lr, module, grads),
            Self::Sgd(optimizer) => optimizer.step_multi(lr, module, grads),
            Self::Adafactor(optimizer) => optimizer.step_multi(lr, module, grads),
        }
    }

    fn to_record(&self) -> Self::Record {
        match self {
            Self::Adam(optimizer) => AnyOptimizer::Adam(optimizer.to_record()),
            Self::Sgd(optimizer) => AnyOptimizer::Sgd(optimizer.to_record()),
            Self::Adafactor(optimizer) => AnyOptimizer::Adafactor(optimizer.to_record()),
        }
    }

    /// # Panics
    /// On the state of another optimizer: compare their [names](Self::name) first.
    fn load_record(self, record: Self::Record) -> Self {
        match (self, record) {
            (Self::Adam(optimizer), AnyOptimizer::Adam(record)) => {
                Self::Adam(optimizer.load_record(record))
            }
            (Self::Sgd(optimizer), AnyOptimizer::Sgd(record)) => {
                Self::Sgd(optimizer.load_record(record))
            }
            (Self::Adafactor(optimizer), AnyOptimizer::Adafactor(record)) => {
                Self::Adafactor(optimizer.load_record(record))
            }
            (optimizer, record) => {
                panic!(
                    "{} cannot go on from a state of {}",
                    optimizer.name(),
                    record.name()
                )
            }
        }
    }
}
