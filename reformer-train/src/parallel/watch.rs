//! A time limit for MPI calls in which another process got lost.
//!
//! Processes meet with a time limit before they send anything. If one stops responding after that, in
//! the middle of a sum, the others would stay in a call without a limit.

use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::launcher::await_turn;
use crate::error::ParallelError;
use crate::screen::console::tell;

/// Number of polls of a call within its time limit.
const LOOKS: u32 = 10;

/// Number of the pending call, if there is one, and of all calls so far.
#[derive(Debug, Default)]
struct Calls {
    current: Option<u64>,
    n_calls: u64,
}

/// A thread that ends the process when a call takes too long.
#[derive(Debug)]
pub(super) struct Watch(Arc<Mutex<Calls>>);

impl Watch {
    /// Starts the thread. `missing` is reported if a call takes longer than `timeout`.
    pub(super) fn start(timeout: Duration, missing: ParallelError) -> Self {
        let calls = Arc::new(Mutex::default());
        let mut looks = Looks {
            calls: Arc::downgrade(&calls),
            call: None,
            n_looks: 0,
        };
        thread::spawn(move || {
            loop {
                thread::sleep(timeout / LOOKS);
                match looks.look() {
                    Seen::InTime => {}
                    Seen::Gone => return,
                    Seen::Late => break,
                }
            }
            await_turn();
            tell(&format!("error: {missing}"));
            // MPI itself is blocked in the call. Its launcher ends the others.
            process::exit(1);
        });
        Self(calls)
    }

    /// Makes a call under supervision.
    pub(super) fn during<T>(&self, call: impl FnOnce() -> T) -> T {
        {
            let mut calls = lock(&self.0);
            calls.n_calls += 1;
            calls.current = Some(calls.n_calls);
        }
        let result = call();
        lock(&self.0).current = None;
        result
    }
}

fn lock(calls: &Mutex<Calls>) -> MutexGuard<'_, Calls> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The result of a poll.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    InTime,
    Late,
    /// The engine was dropped.
    Gone,
}

/// Polls calls from time to time. Polls are counted instead of the time between them, in which the
/// process itself may have been stopped.
struct Looks {
    calls: Weak<Mutex<Calls>>,
    /// The pending call at the last poll.
    call: Option<u64>,
    /// Number of polls of it.
    n_looks: u32,
}

impl Looks {
    fn look(&mut self) -> Seen {
        let Some(calls) = self.calls.upgrade() else {
            return Seen::Gone;
        };
        let current = lock(&calls).current;
        if current.is_none() || current != self.call {
            self.call = current;
            self.n_looks = 0;
        }
        self.n_looks += u32::from(current.is_some());
        match self.n_looks > LOOKS {
            true => Seen::Late,
            false => Seen::InTime,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_call_that_takes_long_is_late() {
        let watch = Watch(Arc::default());
        let mut looks = Looks {
            calls: Arc::downgrade(&watch.0),
            call: None,
            n_looks: 0,
        };
        let mut look = |n: u32| (0..n).map(|_| looks.look()).last();
        assert_eq!(look(3 * LOOKS), Some(Seen::InTime), "there is no call");
        for _ in 0..3 {
            let seen = watch.during(|| look(LOOKS));
            assert_eq!(seen, Some(Seen::InTime), "every call is another one");
        }
        assert_eq!(watch.during(|| look(LOOKS + 1)), Some(Seen::Late));
        assert_eq!(look(1), Some(Seen::InTime));
        drop(watch);
        assert_eq!(look(1), Some(Seen::Gone));
    }
}
