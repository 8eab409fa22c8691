//! Numbers of training steps, for models in Burn's own learner.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts training steps, across all clones. Burn's learner does not tell a model which step it computes,
/// and [`Pass::train`](reformer_core::Pass::train) needs a unique number for each step: dropout and hash
/// rotations depend on it. As a field of a model, the counter is shared by the copies that the learner makes for
/// several devices, so that no two of them use the same random numbers.
///
/// Numbers are never used twice. With several workers, their assignment depends on timing; with
/// one worker, a training repeats exactly. They are not part of a record: start a resumed training
/// [at](Self::starting_at) the step it has reached.
///
/// ```
/// use reformer_train::task::StepCounter;
///
/// let counter = StepCounter::default();
/// let of_another_device = counter.clone();
/// assert_eq!([counter.next(), of_another_device.next(), counter.next()], [0, 1, 2]);
/// assert_eq!(StepCounter::starting_at(500).next(), 500);
/// ```
#[derive(Debug, Clone, Default)]
pub struct StepCounter(Arc<AtomicU64>);

impl StepCounter {
    /// A counter that starts at this number.
    pub fn starting_at(step: u64) -> Self {
        Self(Arc::new(AtomicU64::new(step)))
    }

    /// The number of the next step.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}
