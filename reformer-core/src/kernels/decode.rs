//! Decoding kernels: attention of the newest position of each sequence, over a cache of the others.

use core::cell::RefCell;

/// Number of keys that full attention sums up before it continues with the next ones.
pub(crate) const KEYS_AT_ONCE: usize = 128;

/// The rows of a cache that a head's newest position sees.
///
/// They are divided into parts: one for each hash round or slice of keys, as in the kernels for
/// whole sequences. Each part is a softmax, and all together are one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VisibleKeys {
    /// The newest position's own row.
    pub own: u32,
    /// Rows of the keys, one part after another, in the order of summation.
    pub keys: Vec<u32>,
    /// End of each part in `keys`. No part is empty.
    pub ends: Vec<usize>,
    /// Multiplicity of each key; its weight is divided by it. Empty if no weight is divided.
    pub counts: Vec<f32>,
}

impl VisibleKeys {
    /// Ends a part, which has the keys added since the last one.
    pub(crate) fn end_part(&mut self) {
        self.ends.push(self.keys.len());
    }

    /// Range of a part in `keys`.
    pub(crate) fn part(&self, number: usize) -> core::ops::Range<usize> {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[number]
    }

    /// Makes keys that are listed more than once count once.
    pub(crate) fn count_once(&mut self) {
        LISTED.with_borrow_mut(|listed| {
            let n_rows = self.keys.iter().max().map_or(0, |&last| last as usize + 1);
            listed.resize(n_rows.max(listed.len()), 0);
            for &key in &self.keys {
                listed[key as usize] += 1;
            }
            let count = |&key: &u32| match key == self.own {
                // Its own row is listed only if there is no other key, and then in every part.
                true => 1.0,
                false => listed[key as usize] as f32,
            };
            self.counts = self.keys.iter().map(count).collect();
            for &key in &self.keys {
                listed[key as usize] = 0;
            }
        });
    }
}

thread_local! {
    /// How often each row is listed: zeros between calls.
    static LISTED: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}
