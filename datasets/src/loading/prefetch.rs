//! Batches that worker threads read ahead.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// Reads the batches of some steps ahead, in several worker threads.
///
/// The workers alternate: the first of `n` reads the first batch, the batch `n` further on, and so
/// on. So the batches are returned in the order of their steps without sorting, whichever thread is
/// faster. A worker is at most two batches ahead: one waits to be taken, one is being sent.
pub(crate) struct Prefetch<T> {
    /// The steps that have not been received yet.
    steps: Range<u64>,
    first_step: u64,
    workers: Vec<Worker<T>>,
}

struct Worker<T> {
    batches: Receiver<T>,
    thread: JoinHandle<()>,
}

impl<T: Send + 'static> Prefetch<T> {
    /// Starts the workers, at least one.
    pub(crate) fn start(
        n_workers: usize,
        steps: Range<u64>,
        read: Arc<dyn Fn(u64) -> T + Send + Sync>,
    ) -> Self {
        let workers = (0..n_workers)
            .map(|worker| {
                let (sender, batches) = sync_channel(1);
                let (steps, read) = (steps.clone(), read.clone());
                let work = move || {
                    for step in steps.skip(worker).step_by(n_workers) {
                        if sender.send(read(step)).is_err() {
                            // The receiver was dropped.
                            return;
                        }
                    }
                };
                Worker {
                    batches,
                    thread: std::thread::spawn(work),
                }
            })
            .collect();
        Self {
            first_step: steps.start,
            steps,
            workers,
        }
    }

    /// The batch of a step, which must not be one that was skipped before.
    pub(crate) fn take(&mut self, step: u64) -> T {
        loop {
            let next = self
                .steps
                .next()
                .expect("a step is taken once, and in order");
            let turn = (next - self.first_step) % self.workers.len() as u64;
            let batch = self.workers[turn as usize]
                .batches
                .recv()
                .expect("a worker ends before its last step only when reading panics");
            // Batches in between were taken by another iterator of the same loader.
            if next == step {
                return batch;
            }
        }
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        for Worker { batches, thread } in self.workers.drain(..) {
            drop(batches);
            // A panic of the worker has been reported by its own thread.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn batches_come_in_order_whatever_the_number_of_workers() {
        for n_workers in [1, 2, 3, 7, 50] {
            let slow_at_times = |step: u64| {
                std::thread::sleep(std::time::Duration::from_micros(step * 37 % 5 * 100));
                step * step
            };
            let mut prefetch = Prefetch::start(n_workers, 5..45, Arc::new(slow_at_times));
            for step in 5..45 {
                assert_eq!(prefetch.take(step), step * step);
            }
        }
    }

    #[test]
    fn steps_that_others_took_are_passed_over() {
        let mut prefetch = Prefetch::start(3, 0..100, Arc::new(|step| step));
        for step in [2, 3, 7, 50, 99] {
            assert_eq!(prefetch.take(step), step);
        }
    }

    #[test]
    fn workers_end_with_it_and_are_never_far_ahead() {
        let n_read = Arc::new(AtomicU64::new(0));
        let counted = n_read.clone();
        let read = move |step| {
            counted.fetch_add(1, Ordering::Relaxed);
            step
        };
        let mut prefetch = Prefetch::start(2, 0..u64::MAX, Arc::new(read));
        assert_eq!(prefetch.take(0), 0);
        drop(prefetch);
        // One was taken, and each of two workers had one waiting and one being sent.
        assert!(n_read.load(Ordering::Relaxed) <= 1 + 2 * 2);
        assert_eq!(Arc::strong_count(&n_read), 1, "the threads are gone");
    }
}
