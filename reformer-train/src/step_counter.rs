//! Numbers of training steps, for models in Burn's own learner.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts training steps, all clones together. Burn's learner does not tell a model which step it computes,
/// and [`Pass::train`](reformer_core::Pass::train) needs a number that no other step has: dropout and hash
/// rotations follow from it. As a field of a model, it is counted on by the copies that the learner gives to
/// each of several devices, so that no two of them draw the same.
///
/// Numbers are never used twice, but which of several workers has which is up to their order in time; with
/// one worker a training repeats exactly. They are no part of a record: start a training that goes on
/// [at](Self::starting_at) the step it has come to.
///
/// ```
/// use reformer_train::StepCounter;
///
/// let counter = StepCounter::default();
/// let of_another_device = counter.clone();
/// assert_eq!([counter.next(), of_another_device.next(), counter.next()], [0, 1, 2]);
/// assert_eq!(StepCounter::starting_at(500).next(), 500);
/// ```
#[derive(Debug, Clone, Default)]
pub struct StepCounter(Arc<AtomicU64>);

impl StepCounter {
    /// A counter whose first number is this one.
    pub fn starting_at(step: u64) -> Self {
        Self(Arc::new(AtomicU64::new(step)))
    }

    /// The number of a step that begins.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}
