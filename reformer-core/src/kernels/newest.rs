//! What decoding asks of a backend: the newest position of each sequence, and a cache of the others.

/// Keys that full attention adds up before it goes on to the next ones.
pub(crate) const KEYS_AT_ONCE: usize = 128;

/// The rows of a cache that the newest position of a head sees.
///
/// They come in parts: one for each hash round or slice of keys, as the kernels for whole sequences
/// take them. Each part is a softmax, and all together are one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// The newest position's own row.
    pub own: u32,
    /// Rows of the keys, one part after another, in the order in which they are added up.
    pub keys: Vec<u32>,
    /// Where each part ends in `keys`. No part is empty.
    pub ends: Vec<usize>,
    /// How often each of the keys counts as being there; its weight is divided by it. Empty where
    /// none is to be divided.
    pub counts: Vec<f32>,
}

impl Seen {
    /// Ends a part with the keys since the last one.
    pub(crate) fn end_part(&mut self) {
        self.ends.push(self.keys.len());
    }

    /// Where a part lies in the list of keys.
    pub(crate) fn part(&self, number: usize) -> core::ops::Range<usize> {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[number]
    }

    /// Lets keys that are listed more than once count once.
    pub(crate) fn count_once(&mut self) {
        let mut sorted = self.keys.clone();
        sorted.sort_unstable();
        let count = |key: &u32| {
            if *key == self.own {
                // It is seen only where there is nothing else, and then in every part.
                return 1.0;
            }
            let first = sorted.partition_point(|other| other < key);
            let same = sorted[first..].iter().take_while(|other| *other == key);
            same.count() as f32
        };
        self.counts = self.keys.iter().map(count).collect();
    }
}
