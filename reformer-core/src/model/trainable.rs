//! What a training loop needs of a model.

use burn::module::{AutodiffModule, Module};
use burn::optim::GradientsParams;

use super::loss::LossOutput;
use crate::kernels::{ReformerBackend, TrainBackend};
use crate::pass::Pass;

/// A model with a loss, on a backend with or without autodiff.
pub trait Loss<B: ReformerBackend>: Module<B> {
    /// Inputs and targets.
    type Batch;

    /// Mean loss of a batch, without gradients.
    fn loss(&self, batch: Self::Batch, pass: &Pass<B>) -> LossOutput<B>;
}

/// A model with a [`Loss`] and its gradients: those of this crate, and any other [`Module`]. Nothing
/// has to be written for the latter, whose gradients are those of Burn's graph.
///
/// ```
/// use burn_autodiff::Autodiff;
/// use burn_flex::Flex;
/// use reformer_core::burn::prelude::*;
/// use reformer_core::prelude::*;
///
/// let device = Default::default();
/// let config = ReformerLmConfig::new(ReformerConfig::new(256, 32, 2));
/// let model = config.init::<Autodiff<Flex>>(&device);
/// let tokens = Tensor::<_, 2, Int>::zeros([1, 100], &device);
/// let pass = Pass::train(Key::new(42).fold(0)); // seed 42, step 0
/// let (loss, gradients) = model.gradients((tokens.clone(), tokens), pass);
/// // optimizer.step(learning_rate, model, gradients)
/// # assert!(loss.loss.into_scalar() > 0.0 && gradients.len() > 0);
/// ```
pub trait Trainable<B: TrainBackend>: Loss<B> + AutodiffModule<B> {
    /// Mean loss of a batch, and the gradients of all parameters.
    fn gradients(
        &self,
        batch: Self::Batch,
        pass: Pass<B>,
    ) -> (LossOutput<B::InnerBackend>, GradientsParams) {
        self.scaled_gradients(batch, pass, 1.0)
    }

    /// As [`gradients`](Self::gradients), with all gradients multiplied by `scale` before they pass
    /// through the model: in [`f16`](crate::Precision::F16) small ones would otherwise become zero.
    /// The loss is not scaled.
    fn scaled_gradients(
        &self,
        batch: Self::Batch,
        pass: Pass<B>,
        scale: f64,
    ) -> (LossOutput<B::InnerBackend>, GradientsParams) {
        gradients_by_graph(self, batch, &pass, scale)
    }
}

/// [Scaled gradients](Trainable::scaled_gradients) of Burn's graph, which keeps all activations.
pub(super) fn gradients_by_graph<A, M>(
    model: &M,
    batch: M::Batch,
    pass: &Pass<A>,
    scale: f64,
) -> (LossOutput<A::InnerBackend>, GradientsParams)
where
    A: TrainBackend,
    M: Loss<A> + AutodiffModule<A>,
{
    let loss = model.loss(batch, pass);
    let scaled = loss.loss.clone() * scale;
    let gradients = GradientsParams::from_grads(scaled.backward(), model);
    (loss.inner(), gradients)
}
