//! How a run is trained, where that does not change what comes out.

use std::error::Error;
use std::sync::Arc;

use burn::tensor::backend::AutodiffBackend;
use burn::train::Interrupter;

use crate::console::tell;
use crate::error::TrainError;
use crate::model::Model;
use crate::parallel::{Group, Sharing};
use crate::screen::{Screen, Silent};

/// Who is told of what goes wrong without ending a run.
pub type Warn = fn(&TrainError);

/// Writes a text by a model, to show how far it is.
pub type WriteSample<B> = Arc<dyn Fn(&Model<B>) -> Option<String>>;

/// What the weights that a training ends with do not depend on.
pub struct TrainOptions<B: AutodiffBackend, R = Silent> {
    /// Where progress is shown.
    pub screen: Screen<R>,
    /// Stops the run after the step that is being computed, which is then saved.
    pub interrupter: Interrupter,
    /// Is told of what goes wrong without ending the run: a checkpoint that cannot be written, a
    /// step that was left out.
    pub warn: Warn,
    /// Is asked for a text after each evaluation, for `samples.jsonl` and the page of the run.
    pub write: Option<WriteSample<B::InnerBackend>>,
    /// The processes that train together, of which this one has the run; the others
    /// [help](crate::parallel::Member).
    pub group: Option<Group>,
    /// What they share, beside the work.
    pub sharing: Sharing,
}

impl<B: AutodiffBackend, R> TrainOptions<B, R> {
    /// Shows progress on a screen, and warnings on the standard error output.
    pub fn new(screen: Screen<R>) -> Self {
        Self {
            screen,
            interrupter: Interrupter::new(),
            warn: |error| tell(&format!("warning: {}; the run goes on", with_causes(error))),
            write: None,
            group: None,
            sharing: Sharing::default(),
        }
    }

    /// Asks for a text after each evaluation. It takes the time that the function takes.
    pub fn with_samples(
        mut self,
        write: impl Fn(&Model<B::InnerBackend>) -> Option<String> + 'static,
    ) -> Self {
        self.write = Some(Arc::new(write));
        self
    }
}

/// An error and what led to it, in one line.
fn with_causes(error: &TrainError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

impl<B: AutodiffBackend> TrainOptions<B> {
    /// Shows no progress.
    pub fn silent() -> Self {
        Self::new(Screen::silent())
    }
}
