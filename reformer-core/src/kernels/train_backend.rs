//! The backend of training.

use burn::tensor::backend::AutodiffBackend;

use super::ReformerBackend;

/// A backend on which a Reformer is trained: one with gradients, such as `Autodiff<Flex>`. Both it and its inner
/// backend run a Reformer. Never implemented by hand.
///
/// ```
/// use burn_autodiff::Autodiff;
/// use burn_flex::Flex;
/// use reformer_core::kernels::TrainBackend;
///
/// fn trains<B: TrainBackend>() {}
/// trains::<Autodiff<Flex>>();
/// ```
pub trait TrainBackend: AutodiffBackend<InnerBackend: ReformerBackend> + ReformerBackend {}

impl<B> TrainBackend for B where B: AutodiffBackend<InnerBackend: ReformerBackend> + ReformerBackend {}
