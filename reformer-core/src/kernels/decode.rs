//! Decoding kernels: attention of the newest position of each sequence, over a cache of the others.

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
        let mut sorted = self.keys.clone();
        sorted.sort_unstable();
        let count = |key: &u32| {
            if *key == self.own {
                // Its own row is listed only if there is no other key, and then in every part.
                return 1.0;
            }
            let first = sorted.partition_point(|other| other < key);
            let same = sorted[first..].iter().take_while(|other| *other == key);
            same.count() as f32
        };
        self.counts = self.keys.iter().map(count).collect();
    }
}
