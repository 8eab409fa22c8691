//! Options of a training that do not change its result.

use std::error::Error;
use std::marker::PhantomData;
use std::sync::Arc;

use burn::tensor::backend::AutodiffBackend;
use burn::train::Interrupter;

use crate::error::TrainError;
use crate::parallel::{Group, Sharing};
use crate::screen::console::tell;
use crate::screen::{Screen, Silent};
use crate::task::model::Model;

/// Reports errors that do not end a run.
pub type Warn = fn(&TrainError);

/// Generates a text with a model, to show its progress.
pub type WriteSample<M> = Arc<dyn Fn(&M) -> Option<String>>;

/// Options that cannot change the resulting weights: display, warnings, samples, curves, interruption.
pub struct TrainOptions<
    B: AutodiffBackend,
    R = Silent,
    M = Model<<B as AutodiffBackend>::InnerBackend>,
> {
    /// Where progress is shown.
    pub screen: Screen<R>,
    /// Stops the run after the current step, which is then saved.
    pub interrupter: Interrupter,
    /// Reports errors that do not end the run: a checkpoint that cannot be written, a
    /// step that was skipped.
    pub warn: Warn,
    /// Generates a text after each evaluation, for `samples.jsonl` and the page of the run.
    pub write: Option<WriteSample<M>>,
    /// Writes an event file of TensorBoard, in addition to `metrics.csv`. A run that has one continues it in any case.
    pub tensorboard: bool,
    /// The processes that train together, of which this one owns the run; the others
    /// are [members](crate::Member).
    pub group: Option<Group>,
    /// What they share in addition to the work.
    pub sharing: Sharing,
    backend: PhantomData<B>,
}

impl<B: AutodiffBackend, R, M> TrainOptions<B, R, M> {
    /// Shows progress on a screen, and warnings on standard error.
    pub fn new(screen: Screen<R>) -> Self {
        Self {
            screen,
            interrupter: Interrupter::new(),
            warn: |error| {
                tell(&format!(
                    "warning: {}; the run continues",
                    with_causes(error)
                ))
            },
            write: None,
            tensorboard: false,
            group: None,
            sharing: Sharing::default(),
            backend: PhantomData,
        }
    }

    /// Writes an event file of TensorBoard, if asked for.
    pub fn with_tensorboard(mut self, tensorboard: bool) -> Self {
        self.tensorboard = tensorboard;
        self
    }

    /// Generates a text after each evaluation. Training waits for the function.
    pub fn with_samples(mut self, write: impl Fn(&M) -> Option<String> + 'static) -> Self {
        self.write = Some(Arc::new(write));
        self
    }
}

/// An error and its causes, in one line.
fn with_causes(error: &TrainError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

impl<B: AutodiffBackend, M> TrainOptions<B, Silent, M> {
    /// Shows no progress.
    pub fn silent() -> Self {
        Self::new(Screen::silent())
    }
}
