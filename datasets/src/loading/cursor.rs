//! The position of a loader in an endless stream of steps.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// The next step of a stream that is divided into epochs of equal length.
///
/// Epoch `e` has the steps `e * steps_per_epoch .. (e + 1) * steps_per_epoch`. A loader of some
/// batches only takes those steps of an epoch whose offset in it lies in `offsets`.
#[derive(Debug)]
pub(crate) struct Cursor {
    steps_per_epoch: u64,
    offsets: Range<u64>,
    next: Mutex<u64>,
}

impl Cursor {
    /// A cursor before step 0 of all steps.
    pub(crate) fn new(steps_per_epoch: u64) -> Self {
        Self {
            steps_per_epoch,
            offsets: 0..steps_per_epoch,
            next: Mutex::new(0),
        }
    }

    /// A cursor of the same steps, before this one.
    pub(crate) fn starting_at(&self, step: u64) -> Self {
        Self {
            steps_per_epoch: self.steps_per_epoch,
            offsets: self.offsets.clone(),
            next: Mutex::new(step),
        }
    }

    /// A cursor at the same step that only takes the steps `start..end` of those in an epoch.
    pub(crate) fn slice(&self, start: u64, end: u64) -> Self {
        Self {
            steps_per_epoch: self.steps_per_epoch,
            offsets: self.offsets.start + start..self.offsets.start + end,
            next: Mutex::new(self.next_step()),
        }
    }

    /// Number of steps that are taken in an epoch.
    pub(crate) fn n_per_epoch(&self) -> u64 {
        self.offsets.end - self.offsets.start
    }

    /// Number of them before a step of this epoch.
    pub(crate) fn n_before(&self, step: u64, epoch: u64) -> u64 {
        let Range { start, end } = self.steps_of(epoch);
        step.clamp(start, end) - start
    }

    /// The epoch of the next step.
    pub(crate) fn epoch(&self) -> u64 {
        self.next_step() / self.steps_per_epoch
    }

    /// The steps that are taken in an epoch.
    fn steps_of(&self, epoch: u64) -> Range<u64> {
        let first = epoch * self.steps_per_epoch;
        first + self.offsets.start..first + self.offsets.end
    }

    /// The next step that no iterator has taken.
    pub(crate) fn next_step(&self) -> u64 {
        // An integer is never half written, so the value after a panic of another thread is valid.
        *self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The remaining steps of an epoch.
    pub(crate) fn rest_of(&self, epoch: u64) -> Range<u64> {
        let Range { start, end } = self.steps_of(epoch);
        let next = self.next_step().max(start);
        next..end.max(next)
    }

    /// Takes the next step if the epoch still has one; otherwise goes to the next one.
    pub(crate) fn take_in(&self, epoch: u64) -> Option<u64> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let end_of_epoch = (epoch + 1) * self.steps_per_epoch;
        if *next >= end_of_epoch {
            return None;
        }
        let Range { start, end } = self.steps_of(epoch);
        let step = (*next).max(start);
        *next = match step + 1 < end {
            true => step + 1,
            false => end_of_epoch,
        };
        (step < end).then_some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cursor of some steps of each epoch, before `next`.
    fn cursor(steps_per_epoch: u64, offsets: Range<u64>, next: u64) -> Cursor {
        let all = Cursor::new(steps_per_epoch);
        all.slice(offsets.start, offsets.end).starting_at(next)
    }

    fn rest_of_epoch(cursor: &Cursor) -> Vec<u64> {
        let epoch = cursor.epoch();
        std::iter::from_fn(|| cursor.take_in(epoch)).collect()
    }

    #[test]
    fn epochs_follow_each_other() {
        let cursor = cursor(3, 0..3, 0);
        assert_eq!(rest_of_epoch(&cursor), [0, 1, 2]);
        assert_eq!(cursor.next_step(), 3);
        assert_eq!(rest_of_epoch(&cursor), [3, 4, 5]);
    }

    #[test]
    fn epoch_entered_half_way_ends_where_it_would_have() {
        let cursor = cursor(3, 0..3, 4);
        assert_eq!(rest_of_epoch(&cursor), [4, 5]);
        assert_eq!(rest_of_epoch(&cursor), [6, 7, 8]);
    }

    #[test]
    fn only_the_offsets_asked_for_are_taken() {
        let cursor = cursor(5, 1..3, 0);
        assert_eq!(rest_of_epoch(&cursor), [1, 2]);
        assert_eq!(cursor.next_step(), 5);
        assert_eq!(rest_of_epoch(&cursor), [6, 7]);
    }

    #[test]
    fn rest_of_an_epoch_is_what_will_be_taken() {
        for next in 0..10 {
            let cursor = cursor(5, 1..3, next);
            let rest: Vec<u64> = cursor.rest_of(next / 5).collect();
            assert_eq!(rest, rest_of_epoch(&cursor), "from step {next}");
        }
    }

    #[test]
    fn epoch_without_a_step_left_is_passed_over_once() {
        let late = cursor(5, 1..3, 4);
        assert!(rest_of_epoch(&late).is_empty());
        assert_eq!(rest_of_epoch(&late), [6, 7]);

        let no_offsets = cursor(5, 2..2, 0);
        assert!(rest_of_epoch(&no_offsets).is_empty());
        assert_eq!(no_offsets.next_step(), 5);
    }

    #[test]
    fn epoch_that_another_iterator_ended_has_no_more() {
        let cursor = cursor(2, 0..2, 0);
        assert_eq!(cursor.take_in(0), Some(0));
        assert_eq!(rest_of_epoch(&cursor), [1]);
        assert_eq!(cursor.take_in(0), None);
        assert_eq!(cursor.next_step(), 2);
    }
}
