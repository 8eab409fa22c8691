//! Endless passes over the same items, each in a new order: a permutation.

use std::sync::{Arc, Mutex, PoisonError};

use crate::sequences::random::{below, keyed_rng, shuffle};

/// Number of cached permutations. A loader's worker threads, or its parts for several devices, are
/// seldom further apart.
const N_CACHED: usize = 4;

/// A cache of the last permutations, since drawing one takes time in proportion to its items. Each
/// is stored at its number modulo the length.
#[derive(Debug)]
pub(crate) struct Cache<T> {
    slots: Mutex<[Slot<T>; N_CACHED]>,
}

/// A permutation and its number.
type Slot<T> = Option<(u64, Arc<T>)>;

impl<T> Cache<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Mutex::new([const { None }; N_CACHED]),
        }
    }

    /// The permutation of this number, drawn if it is not cached.
    pub(crate) fn get(&self, number: u64, draw: impl FnOnce() -> T) -> Arc<T> {
        // Slots are replaced as a whole, so they are valid after a panic of another thread.
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut slots[(number % N_CACHED as u64) as usize];
        match slot {
            Some((cached, permutation)) if *cached == number => permutation.clone(),
            _ => slot.insert((number, Arc::new(draw()))).1.clone(),
        }
    }
}

/// The permutations of `n_items` items by a seed. Sample `s` is at position `s % n_items` of
/// permutation `s / n_items`.
#[derive(Debug)]
pub(crate) struct Permutations {
    seed: u64,
    n_items: usize,
    max_phase: usize,
    cache: Cache<Permutation>,
}

/// A sample of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// The phase of its permutation.
    pub(crate) phase: usize,
    /// Its item.
    pub(crate) item: usize,
}

impl Permutations {
    /// Permutations of at least one item, each with a random phase from 0 to `max_phase`.
    pub(crate) fn new(seed: u64, n_items: usize, max_phase: usize) -> Self {
        Self {
            seed,
            n_items,
            max_phase,
            cache: Cache::new(),
        }
    }

    /// The sample of this number; repeated calls return the same.
    pub(crate) fn sample(&self, number: u64) -> Sample {
        let n_items = self.n_items as u64;
        let pass = number / n_items;
        let draw = || Permutation::draw(self.seed, pass, self.n_items, self.max_phase);
        let permutation = self.cache.get(pass, draw);
        Sample {
            phase: permutation.phase,
            item: permutation.order[(number % n_items) as usize],
        }
    }
}

/// The order of the items in a pass, and its phase.
#[derive(Debug)]
struct Permutation {
    phase: usize,
    order: Vec<usize>,
}

impl Permutation {
    /// Draws it from its number and the seed only.
    fn draw(seed: u64, number: u64, n_items: usize, max_phase: usize) -> Self {
        let mut rng = keyed_rng(b"reformer windows", seed, number);
        let phase = below(&mut rng, max_phase + 1);
        let mut order: Vec<usize> = (0..n_items).collect();
        shuffle(&mut rng, &mut order);
        Self { phase, order }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    #[test]
    fn every_phase_up_to_the_largest_is_drawn() {
        let phases: HashSet<_> = (0..500)
            .map(|n| Permutation::draw(1, n, 1, 12).phase)
            .collect();
        assert_eq!(phases, (0..=12).collect());
    }

    #[test]
    fn every_order_is_equally_likely() {
        // 6,000 passes of 3 items: each of the 6 orders is expected 1,000 times, with a standard
        // deviation of 29.
        let mut counts = BTreeMap::<_, usize>::new();
        for number in 0..6_000 {
            let order = Permutation::draw(9, number, 3, 0).order;
            *counts.entry(order).or_default() += 1;
        }
        assert_eq!(counts.len(), 6);
        for (order, count) in counts {
            assert!(count.abs_diff(1_000) < 5 * 29, "{order:?}: {count}");
        }
    }

    #[test]
    fn what_was_read_before_does_not_matter() {
        let read = |numbers: &mut dyn Iterator<Item = u64>| -> BTreeMap<u64, (usize, usize)> {
            let permutations = Permutations::new(5, 3, 4);
            numbers
                .map(|number| (number, permutations.sample(number)))
                .map(|(number, sample)| (number, (sample.phase, sample.item)))
                .collect()
        };
        let in_order = read(&mut (0..60));
        assert_eq!(in_order, read(&mut (0..60).rev()));
        assert_eq!(in_order, read(&mut (0..60).map(|i| i * 17 % 60)));
    }
}
