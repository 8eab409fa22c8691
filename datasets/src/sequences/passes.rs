//! Endless passes over the same items, each in a new order.

use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

/// Number of cached passes. A loader's worker threads, or its parts for several devices, are seldom
/// further apart.
const N_REMEMBERED: usize = 4;

/// A cache of the last passes, since drawing one takes time in proportion to its items. Each is stored at its number
/// modulo the length.
#[derive(Debug)]
pub(crate) struct Remembered<T> {
    slots: Mutex<[Slot<T>; N_REMEMBERED]>,
}

/// A pass and its number.
type Slot<T> = Option<(u64, Arc<T>)>;

impl<T> Remembered<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Mutex::new([const { None }; N_REMEMBERED]),
        }
    }

    /// The pass of this number, drawn if it is not cached.
    pub(crate) fn get(&self, number: u64, draw: impl FnOnce() -> T) -> Arc<T> {
        // Slots are replaced as a whole, so they are valid after a panic of another thread.
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut slots[(number % N_REMEMBERED as u64) as usize];
        match slot {
            Some((remembered, pass)) if *remembered == number => pass.clone(),
            _ => slot.insert((number, Arc::new(draw()))).1.clone(),
        }
    }
}

/// The passes of a seed over `n_items` items. Sample `s` is at position `s % n_items` of pass `s / n_items`.
#[derive(Debug)]
pub(crate) struct Passes {
    seed: u64,
    n_items: usize,
    max_phase: usize,
    remembered: Remembered<Pass>,
}

/// The item at a position of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The pass's phase.
    pub(crate) phase: usize,
    /// The item.
    pub(crate) item: usize,
}

impl Passes {
    /// Passes over at least one item, each of which also has a random phase from 0 to `max_phase`.
    pub(crate) fn new(seed: u64, n_items: usize, max_phase: usize) -> Self {
        Self {
            seed,
            n_items,
            max_phase,
            remembered: Remembered::new(),
        }
    }

    /// The item and phase of a sample; repeated calls return the same.
    pub(crate) fn place(&self, sample: u64) -> Place {
        let n_items = self.n_items as u64;
        let number = sample / n_items;
        let draw = || Pass::draw(self.seed, number, self.n_items, self.max_phase);
        let pass = self.remembered.get(number, draw);
        Place {
            phase: pass.phase,
            item: pass.order[(sample % n_items) as usize],
        }
    }
}

/// One pass: its phase, and the order of its items.
#[derive(Debug)]
struct Pass {
    phase: usize,
    order: Vec<usize>,
}

impl Pass {
    /// Draws the pass from its number and the seed only.
    fn draw(seed: u64, number: u64, n_items: usize, max_phase: usize) -> Self {
        let mut rng = keyed_rng(b"reformer windows", seed, number);
        let phase = below(&mut rng, max_phase + 1);
        let mut order: Vec<usize> = (0..n_items).collect();
        shuffle(&mut rng, &mut order);
        Self { phase, order }
    }
}

/// A separate generator for each purpose, seed and number.
pub(crate) fn keyed_rng(purpose: &[u8; 16], seed: u64, number: u64) -> ChaCha8Rng {
    // The key is written out, since `seed_from_u64` guarantees less than the cipher itself.
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&number.to_le_bytes());
    key[16..].copy_from_slice(purpose);
    ChaCha8Rng::from_seed(key)
}

/// A uniform number below `bound` (Lemire, 2019, "Fast random integer generation in an interval").
///
/// Implemented here because the algorithm behind `random_range` may change with rand's version and features, and
/// with it the batches of a seed.
pub(crate) fn below(rng: &mut impl Rng, bound: usize) -> usize {
    let bound = bound as u64;
    // 2^64 modulo `bound`: this many low halves are rejected, and drawn again.
    let excess = bound.wrapping_neg() % bound;
    loop {
        let product = u128::from(rng.next_u64()) * u128::from(bound);
        if product as u64 >= excess {
            return (product >> 64) as usize;
        }
    }
}

/// A uniform random permutation (Fisher and Yates).
pub(crate) fn shuffle<T>(rng: &mut impl Rng, items: &mut [T]) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(rng, i + 1));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    #[test]
    fn every_phase_up_to_the_largest_is_drawn() {
        let phases: HashSet<_> = (0..500).map(|n| Pass::draw(1, n, 1, 12).phase).collect();
        assert_eq!(phases, (0..=12).collect());
    }

    #[test]
    fn every_order_is_equally_likely() {
        // 6,000 passes of 3 items: each of the 6 orders is expected 1,000 times, with a standard deviation of 29.
        let mut counts = BTreeMap::<_, usize>::new();
        for number in 0..6_000 {
            let order = Pass::draw(9, number, 3, 0).order;
            *counts.entry(order).or_default() += 1;
        }
        assert_eq!(counts.len(), 6);
        for (order, count) in counts {
            assert!(count.abs_diff(1_000) < 5 * 29, "{order:?}: {count}");
        }
    }

    #[test]
    fn what_was_read_before_does_not_matter() {
        let places = |samples: &mut dyn Iterator<Item = u64>| -> BTreeMap<u64, (usize, usize)> {
            let passes = Passes::new(5, 3, 4);
            samples
                .map(|s| (s, passes.place(s)))
                .map(|(s, place)| (s, (place.phase, place.item)))
                .collect()
        };
        let in_order = places(&mut (0..60));
        assert_eq!(in_order, places(&mut (0..60).rev()));
        assert_eq!(in_order, places(&mut (0..60).map(|i| i * 17 % 60)));
    }
}
