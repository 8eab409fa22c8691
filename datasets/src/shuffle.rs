//! The endless stream of shuffled windows that training reads.

use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

use crate::error::DatasetError;
use crate::split::Split;
use crate::windows::{ByteWindow, ByteWindows};

/// Endlessly many passes over a split, each with its own cuts and its own order.
///
/// Every pass has the same number of windows, so that sample `s` is window `s % n_windows` of pass
/// `s / n_windows`. Of `n` bytes and windows of `w`, that number is `n / w - 1`, or 1 where this is 0; the bytes left
/// over, `n - 1 - n_windows * w`, are the largest phase, with which the last target is the last byte.
/// From `2 * w` bytes on there so are at least `w` phases, and a byte can take any place in a window.
#[derive(Debug)]
pub(crate) struct ShuffledWindows {
    windows: ByteWindows,
    shape: PassShape,
    seed: u64,
    /// The pass used last: the next sample nearly always belongs to the same.
    last_pass: Mutex<Arc<Pass>>,
}

impl Clone for ShuffledWindows {
    /// The same stream with a memory of its own, for a reader at another place.
    fn clone(&self) -> Self {
        let last_pass = self
            .last_pass
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Self {
            windows: self.windows.clone(),
            shape: self.shape,
            seed: self.seed,
            last_pass: Mutex::new(last_pass.clone()),
        }
    }
}

impl ShuffledWindows {
    /// The stream of a seed.
    ///
    /// # Errors
    ///
    /// Those of [`ByteWindows::new`].
    pub(crate) fn new(
        split: &Split,
        window_length: usize,
        seed: u64,
    ) -> Result<Self, DatasetError> {
        let windows = ByteWindows::new(split, window_length)?;
        let n_windows = (split.len() / window_length).saturating_sub(1).max(1);
        let shape = PassShape {
            n_windows,
            max_phase: split.len() - 1 - n_windows * window_length,
        };
        Ok(Self {
            windows,
            shape,
            seed,
            last_pass: Mutex::new(Arc::new(Pass::draw(seed, 0, shape))),
        })
    }

    /// Windows in each pass.
    pub(crate) fn n_windows(&self) -> usize {
        self.shape.n_windows
    }

    /// The sample of this number: always the same one.
    pub(crate) fn sample(&self, number: u64) -> ByteWindow {
        let n_windows = self.shape.n_windows as u64;
        let pass = self.pass(number / n_windows);
        let index = pass.order[(number % n_windows) as usize];
        self.windows
            .starting_at(pass.phase + index * self.windows.window_length())
    }

    fn pass(&self, number: u64) -> Arc<Pass> {
        // Replaced as a whole, so what a panicking thread leaves is still a pass.
        let mut last = self
            .last_pass
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if last.number != number {
            *last = Arc::new(Pass::draw(self.seed, number, self.shape));
        }
        last.clone()
    }
}

/// What all passes over a split have in common.
#[derive(Clone, Copy, Debug)]
struct PassShape {
    n_windows: usize,
    max_phase: usize,
}

/// One pass over a split: where its first window starts, and in which order its windows come.
#[derive(Debug)]
struct Pass {
    number: u64,
    phase: usize,
    order: Vec<usize>,
}

impl Pass {
    /// Draws the pass from its number and the seed, and from nothing else.
    fn draw(seed: u64, number: u64, shape: PassShape) -> Self {
        let mut rng = pass_rng(seed, number);
        let phase = below(&mut rng, shape.max_phase + 1);
        let mut order: Vec<usize> = (0..shape.n_windows).collect();
        // Fisher and Yates.
        for i in (1..order.len()).rev() {
            order.swap(i, below(&mut rng, i + 1));
        }
        Self {
            number,
            phase,
            order,
        }
    }
}

/// A generator of its own for each seed and pass.
fn pass_rng(seed: u64, pass: u64) -> ChaCha8Rng {
    // The key is spelt out, since `seed_from_u64` promises less than the cipher itself.
    let mut key = *b"................reformer windows";
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&pass.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// A number below `bound`, each equally likely (Lemire, 2019, "Fast random integer generation in an interval").
///
/// Written here because the algorithm behind `random_range` may change with rand's version and features, and
/// with it the batches of a seed.
fn below(rng: &mut impl Rng, bound: usize) -> usize {
    let bound = bound as u64;
    // 2^64 modulo `bound`: that many low halves are one too many, and are drawn again.
    let excess = bound.wrapping_neg() % bound;
    loop {
        let product = u128::from(rng.next_u64()) * u128::from(bound);
        if product as u64 >= excess {
            return (product >> 64) as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use proptest::prelude::*;

    use super::*;
    use crate::corpus::ByteCorpus;
    use crate::split::SplitName;

    fn stream(
        len: usize,
        window_length: usize,
        seed: u64,
    ) -> Result<ShuffledWindows, DatasetError> {
        let split = ByteCorpus::from_bytes("any", vec![0; len])?.whole_as(SplitName::Train);
        ShuffledWindows::new(&split, window_length, seed)
    }

    fn starts(stream: &ShuffledWindows, pass: u64) -> Vec<usize> {
        let n_windows = stream.n_windows() as u64;
        (pass * n_windows..(pass + 1) * n_windows)
            .map(|number| stream.sample(number).start())
            .collect()
    }

    #[test]
    fn a_seed_means_these_windows_for_ever() -> Result<(), DatasetError> {
        let stream = stream(103, 10, 2020)?;
        // From a second implementation, of ChaCha8, Lemire's draw and the shuffle, in another language.
        assert_eq!(starts(&stream, 0), [31, 51, 61, 11, 21, 41, 71, 81, 91]);
        assert_eq!(starts(&stream, 1), [84, 4, 44, 14, 64, 74, 24, 54, 34]);
        Ok(())
    }

    #[test]
    fn number_of_windows_is_as_documented() -> Result<(), DatasetError> {
        // Bytes, window, windows of a pass, largest phase.
        for (len, window_length, n_windows, max_phase) in [
            (2, 1, 1, 0),
            (3, 1, 2, 0),
            (11, 10, 1, 0),
            (19, 10, 1, 8),
            (20, 10, 1, 9),
            (29, 10, 1, 18),
            (30, 10, 2, 9),
            (103, 10, 9, 12),
        ] {
            let shape = stream(len, window_length, 0)?.shape;
            assert_eq!(
                (shape.n_windows, shape.max_phase),
                (n_windows, max_phase),
                "{len} bytes in windows of {window_length}"
            );
        }
        Ok(())
    }

    #[test]
    fn every_phase_up_to_the_largest_is_drawn() {
        let shape = PassShape {
            n_windows: 1,
            max_phase: 12,
        };
        let phases: HashSet<_> = (0..500).map(|n| Pass::draw(1, n, shape).phase).collect();
        assert_eq!(phases, (0..=12).collect());
    }

    #[test]
    fn every_order_is_equally_likely() {
        // 6,000 passes of 3 windows: each of the 6 orders is due 1,000 times, with a deviation of 29.
        let shape = PassShape {
            n_windows: 3,
            max_phase: 0,
        };
        let mut counts = BTreeMap::<_, usize>::new();
        for number in 0..6_000 {
            *counts
                .entry(Pass::draw(9, number, shape).order)
                .or_default() += 1;
        }
        assert_eq!(counts.len(), 6);
        for (order, count) in counts {
            assert!(count.abs_diff(1_000) < 5 * 29, "{order:?}: {count}");
        }
    }

    #[test]
    fn clone_reads_the_same_stream() -> Result<(), DatasetError> {
        let first = stream(1_000, 7, 3)?;
        let second = first.clone();
        assert_eq!(starts(&first, 5), starts(&second, 5));
        assert_eq!(starts(&first, 5), starts(&stream(1_000, 7, 3)?, 5));
        Ok(())
    }

    #[test]
    fn seeds_and_passes_differ() -> Result<(), DatasetError> {
        let (one, other) = (stream(1_000, 7, 3)?, stream(1_000, 7, 4)?);
        let all = [
            starts(&one, 0),
            starts(&one, 1),
            starts(&other, 0),
            starts(&other, 1),
        ];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 4, "{all:?}");
        Ok(())
    }

    proptest! {
        #[test]
        fn a_pass_has_each_of_its_windows_once_and_no_byte_twice(
            window_length in 1_usize..60,
            more in 1_usize..2_000,
            seed: u64,
            pass in 0_u64..1_000_000,
        ) {
            let len = window_length + more;
            let stream = stream(len, window_length, seed)?;
            let mut starts = starts(&stream, pass);
            starts.sort_unstable();
            let phase = starts[0];
            prop_assert!(phase <= stream.shape.max_phase);
            prop_assert_eq!(starts.len(), stream.n_windows());
            for (i, start) in starts.into_iter().enumerate() {
                prop_assert_eq!(start, phase + i * window_length);
                // The last target is a byte of the split.
                prop_assert!(start + window_length < len);
            }
        }
    }
}
