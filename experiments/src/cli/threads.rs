//! Threads of this process.

use std::collections::TryReserveError;
use std::env;
use std::error::Error;
use std::io;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result};
use rayon::{ThreadPoolBuildError, ThreadPoolBuilder};

/// Threads besides those that compute: for progress, checkpoints, metrics, signals and data.
const OTHERS: usize = 12;

/// Address space of a thread, in bytes: its stack, 2 MiB in Rust and rayon, and what surrounds it.
const THREAD_BYTES: usize = (2 << 20) + (64 << 10);

/// Starts the threads that compute, unless they exist, and checks that the others can be started.
/// Libraries would panic later if the system allowed too few.
///
/// # Errors
/// Too few threads, or too little memory for their stacks.
pub(crate) fn start() -> Result<()> {
    let advice = "this program needs more threads than the system allows: raise the limits of processes \
                  and of memory (see `ulimit -a`), or set RAYON_NUM_THREADS to 1";
    reserve_addresses(n_computing().saturating_add(OTHERS)).context(advice)?;
    match ThreadPoolBuilder::new().build_global() {
        Err(error) if is_refused(&error) => return Err(error).context(advice),
        _ => {}
    }
    reserve(OTHERS).context(advice)
}

/// Whether the system refused a thread. Otherwise the threads exist already.
fn is_refused(error: &ThreadPoolBuildError) -> bool {
    error.source().is_some()
}

/// The number of threads that rayon will start.
fn n_computing() -> usize {
    let asked = env::var("RAYON_NUM_THREADS")
        .ok()
        .and_then(|number| number.parse().ok())
        .filter(|&number| number > 0);
    asked.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
}

/// Checks that there is address space for the stacks of `n_threads` threads, and releases it. A thread that gets
/// a stack and no further memory aborts the process, so starting one would not be a safe check.
fn reserve_addresses(n_threads: usize) -> Result<(), TryReserveError> {
    Vec::<u8>::new().try_reserve_exact(n_threads.saturating_mul(THREAD_BYTES))
}

/// Checks that `n_threads` threads can run at a time, by starting them for a moment.
fn reserve(n_threads: usize) -> io::Result<()> {
    let mut ends = Vec::new();
    for _ in 0..n_threads {
        let (end, wait) = mpsc::channel::<()>();
        let thread = thread::Builder::new().spawn(move || wait.recv().is_err())?;
        ends.push((end, thread));
    }
    for (end, thread) in ends {
        drop(end);
        thread.join().ok();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_cannot_be_are_refused() {
        assert!(reserve_addresses(OTHERS).is_ok());
        assert!(reserve_addresses(usize::MAX).is_err());
    }

    #[test]
    fn threads_are_started_once() {
        start().unwrap();
        start().unwrap();
        assert!(!is_refused(
            &ThreadPoolBuilder::new().build_global().unwrap_err()
        ));
    }
}
