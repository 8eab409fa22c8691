//! Counter-based randomness: every random number is a pure function of a key and a counter.
//!
//! Reversible layers run twice, and an interrupted run is resumed: in both cases the same dropout
//! masks and hash rotations must be reproduced. A global generator cannot guarantee that, as its
//! state depends on earlier draws, so none is used. A [`Key`] is folded along the path seed → step
//! → layer → purpose, and its stream is Philox4x32-10 (Salmon et al., "Parallel random numbers: as
//! easy as 1, 2, 3", 2011), which any lane of any device can evaluate at any position.

use core::convert::Infallible;

use rand::TryRng;
use serde::{Deserialize, Serialize};

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
/// Last counter word of folding and of streams: separates the two families of numbers.
const FOLD: u32 = 0;
const STREAM: u32 = 1;

/// Philox4x32-10: 128 random bits for each (counter, key).
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let mut c = counter;
    let mut k = key;
    for _ in 0..10 {
        let [a, b] = [0, 1].map(|i| u64::from(MULTIPLIERS[i]) * u64::from(c[2 * i]));
        c = [
            (b >> 32) as u32 ^ c[1] ^ k[0],
            b as u32,
            (a >> 32) as u32 ^ c[3] ^ k[1],
            a as u32,
        ];
        k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
    }
    c
}

fn words(n: u64) -> [u32; 2] {
    [n as u32, (n >> 32) as u32]
}

/// Identifies a stream of random numbers.
///
/// ```
/// use reformer_core::Key;
///
/// let step = Key::new(42).fold(1000);
/// assert_eq!(step, Key::new(42).fold(1000)); // a resumed run draws what the first one drew
/// assert_ne!(step.fold(0), step.fold(1)); // two layers draw different numbers
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key(u64);

impl Key {
    /// The key of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The key of the `n`-th child: a step of a run, a layer of a model, a purpose in a layer.
    pub fn fold(self, n: u64) -> Self {
        let [low, high] = words(n);
        let bits = philox([low, high, 0, FOLD], words(self.0));
        Self(u64::from(bits[0]) | u64::from(bits[1]) << 32)
    }

    /// The key as words of 32 bits, lowest first.
    #[cfg(feature = "cube")]
    pub(crate) fn words(self) -> [u32; 2] {
        words(self.0)
    }

    /// Random bits number `4 * block` to `4 * block + 3` of this key's stream.
    pub fn bits(self, block: u64) -> [u32; 4] {
        let [low, high] = words(block);
        philox([low, high, 0, STREAM], words(self.0))
    }

    /// This key's stream as a generator, for distributions of the `rand` family.
    pub fn stream(self) -> Stream {
        Stream {
            key: self,
            next: 0,
            block: [0; 4],
        }
    }
}

/// The random numbers of a [`Key`], one after another.
#[derive(Debug, Clone)]
pub struct Stream {
    key: Key,
    next: u64,
    block: [u32; 4],
}

impl TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let lane = (self.next % 4) as usize;
        if lane == 0 {
            self.block = self.key.bits(self.next / 4);
        }
        self.next += 1;
        Ok(self.block[lane])
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let low = u64::from(self.try_next_u32()?);
        let high = u64::from(self.try_next_u32()?);
        Ok(low | high << 32)
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for chunk in dst.chunks_mut(4) {
            let bytes = self.try_next_u32()?.to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
        Ok(())
    }
}

/// Dropout factors of a tensor: 0 with probability `rate`, otherwise `1 / (1 - rate)`. Element `i`
/// depends only on the key and on `i`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    pub(crate) key: Key,
    /// Elements whose random bits are below it are dropped.
    pub(crate) threshold: u32,
    /// Factor of the other elements.
    pub(crate) kept: f32,
}

impl Dropout {
    pub(crate) fn new(key: Key, rate: f64) -> Self {
        Self {
            key,
            threshold: (rate * 2f64.powi(32)) as u32,
            kept: (1.0 / (1.0 - rate)) as f32,
        }
    }

    /// Factors from index `first` on.
    pub(crate) fn fill(self, first: usize, factors: &mut [f32]) {
        let mut bits = [0; 4];
        for (number, factor) in (first..).zip(factors.iter_mut()) {
            let lane = number % 4;
            if lane == 0 || number == first {
                bits = self.key.bits((number / 4) as u64);
            }
            let dropped = bits[lane] < self.threshold;
            *factor = if dropped { 0.0 } else { self.kept };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    /// The known-answer vectors published with Random123.
    #[test]
    fn philox_gives_the_published_answers() {
        assert_eq!(
            philox([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn a_stream_is_its_blocks() {
        let key = Key::new(3).fold(5);
        let mut stream = key.stream();
        let drawn: Vec<u32> = (0..8).map(|_| stream.next_u32()).collect();
        assert_eq!(drawn, [key.bits(0), key.bits(1)].concat());
    }

    #[test]
    fn dropout_keeps_its_rate_and_its_mean() {
        let mut factors = vec![0.0; 100_001];
        Dropout::new(Key::new(1), 0.3).fill(0, &mut factors);
        let zeros = factors.iter().filter(|&&f| f == 0.0).count() as f64 / 100_001.0;
        let mean = factors.iter().map(|&f| f64::from(f)).sum::<f64>() / 100_001.0;
        assert!((zeros - 0.3).abs() < 0.01, "{zeros}");
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
    }

    #[test]
    fn factors_can_be_drawn_from_anywhere() {
        let dropout = Dropout::new(Key::new(9), 0.5);
        let mut all = vec![0.0; 100];
        dropout.fill(0, &mut all);
        for first in [1, 4, 7, 98] {
            let mut part = vec![0.0; 100 - first];
            dropout.fill(first, &mut part);
            assert_eq!(part, all[first..]);
        }
    }
}
