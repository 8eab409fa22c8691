//! An end to calls of MPI in which another process got lost.
//!
//! Processes meet with a time limit before they send anything. One that stands still after that, in the
//! middle of a sum, would hold the others in a call that has no limit.

use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::error::ParallelError;
use super::launcher::await_turn;
use crate::console::tell;

/// When the call began that is under way, if one is.
type Since = Mutex<Option<Instant>>;

/// A thread that ends the process when a call takes too long.
#[derive(Debug)]
pub(super) struct Watch(Arc<Since>);

impl Watch {
    /// Begins to watch. `missing` is told of a call that takes longer than `patience`.
    pub(super) fn start(patience: Duration, missing: ParallelError) -> Self {
        let since = Arc::new(Since::default());
        let watched = Arc::downgrade(&since);
        thread::spawn(move || {
            while is_in_time(&watched, patience) {
                thread::sleep((patience / 10).min(Duration::from_secs(1)));
            }
            if watched.strong_count() > 0 {
                await_turn();
                tell(&format!("error: {missing}"));
                // MPI itself is held in the call. Its launcher ends the others.
                process::exit(1);
            }
        });
        Self(since)
    }

    /// Makes a call that is watched.
    pub(super) fn during<T>(&self, call: impl FnOnce() -> T) -> T {
        *lock(&self.0) = Some(Instant::now());
        let result = call();
        *lock(&self.0) = None;
        result
    }
}

fn lock(since: &Since) -> MutexGuard<'_, Option<Instant>> {
    since.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether somebody is still to be watched, and no call takes too long.
fn is_in_time(watched: &Weak<Since>, patience: Duration) -> bool {
    let Some(since) = watched.upgrade() else {
        return false;
    };
    let is_late = lock(&since).is_some_and(|since| since.elapsed() > patience);
    !is_late
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_call_that_takes_long_is_late() {
        let since = Arc::new(Since::default());
        let watched = Arc::downgrade(&since);
        let patience = Duration::from_millis(1);
        assert!(is_in_time(&watched, patience));
        let watch = Watch(since);
        let long = watch.during(|| {
            assert!(is_in_time(&watched, Duration::from_secs(60)));
            thread::sleep(2 * patience);
            is_in_time(&watched, patience)
        });
        assert!(!long);
        assert!(is_in_time(&watched, patience));
        drop(watch);
        assert!(!is_in_time(&watched, patience));
    }
}
