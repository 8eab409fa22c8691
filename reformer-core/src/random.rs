//! Counter-based randomness: every random number is a pure function of a key and a counter.
//!
//! Reversible layers run twice, and an interrupted run is resumed: in both cases the same dropout
//! masks and hash rotations must be reproduced. A global generator cannot guarantee that, as its
//! state depends on earlier draws, so none is used. A [`Key`] is folded along the path seed → step
//! → layer → purpose, and its stream is Philox4x32-10 (Salmon et al., "Parallel random numbers: as
//! easy as 1, 2, 3", 2011), which any lane of any device can evaluate at any position.

use core::convert::Infallible;

use pulp::{Arch, Simd, WithSimd};
use rand::TryRng;
use serde::{Deserialize, Serialize};

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
/// Last counter word of folding and of streams: separates the two families of numbers.
const FOLD: u32 = 0;
const STREAM: u32 = 1;
/// Number of blocks that a [`Stream`] computes at a time, a multiple of the lanes of any register.
const BLOCKS: usize = 16;

/// Philox4x32-10: 128 random bits for each (counter, key).
// The words of the counter are the low halves of 64 bits, as the factors of vector instructions
// are: like this the compiler computes several blocks in the lanes of registers. What is left in
// the high halves never reaches a low one.
#[inline(always)]
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let mut c = counter.map(u64::from);
    let mut k = key;
    for _ in 0..10 {
        let [a, b] = [0, 1].map(|i| u64::from(MULTIPLIERS[i]) * u64::from(c[2 * i] as u32));
        c = [
            (b >> 32) ^ c[1] ^ u64::from(k[0]),
            b,
            (a >> 32) ^ c[3] ^ u64::from(k[1]),
            a,
        ];
        k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
    }
    c.map(|word| word as u32)
}

#[inline(always)]
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
    #[inline(always)]
    pub fn bits(self, block: u64) -> [u32; 4] {
        let [low, high] = words(block);
        philox([low, high, 0, STREAM], words(self.0))
    }

    /// This key's stream as a generator, for distributions of the `rand` family.
    pub fn stream(self) -> Stream {
        Stream {
            key: self,
            next: 0,
            blocks: [[0; 4]; BLOCKS],
            taken: 4 * BLOCKS,
        }
    }
}

/// The random numbers of a [`Key`], one after another.
#[derive(Debug, Clone)]
pub struct Stream {
    key: Key,
    /// Number of the block that follows `blocks`.
    next: u64,
    blocks: [[u32; 4]; BLOCKS],
    /// Number of words of `blocks` that have been returned.
    taken: usize,
}

impl Stream {
    /// Computes the next blocks, in the widest registers of this processor.
    #[cold]
    fn refill(&mut self) {
        Arch::new().dispatch(Refill {
            key: self.key,
            first: self.next,
            blocks: &mut self.blocks,
        });
        self.next += BLOCKS as u64;
        self.taken = 0;
    }
}

/// The blocks of a key from number `first` on.
struct Refill<'a> {
    key: Key,
    first: u64,
    blocks: &'a mut [[u32; 4]; BLOCKS],
}

impl WithSimd for Refill<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (number, block) in (self.first..).zip(self.blocks) {
            *block = self.key.bits(number);
        }
    }
}

impl TryRng for Stream {
    type Error = Infallible;

    #[inline]
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        if self.taken == 4 * BLOCKS {
            self.refill();
        }
        let word = self.blocks.as_flattened()[self.taken];
        self.taken += 1;
        Ok(word)
    }

    #[inline]
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let [low, high] = match self.blocks.as_flattened()[self.taken..].first_chunk() {
            Some(&both) => {
                self.taken += 2;
                both
            }
            None => [self.try_next_u32()?, self.try_next_u32()?],
        };
        Ok(u64::from(low) | u64::from(high) << 32)
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
    use rand_distr::{Distribution, StandardNormal};

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

    /// The words of a key's blocks, each computed by itself.
    struct Words(Key, u64);

    impl TryRng for Words {
        type Error = Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            let word = self.0.bits(self.1 / 4)[(self.1 % 4) as usize];
            self.1 += 1;
            Ok(word)
        }

        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            let [low, high] = [self.next_u32(), self.next_u32()].map(u64::from);
            Ok(low | high << 32)
        }

        fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
            for chunk in dst.chunks_mut(4) {
                chunk.copy_from_slice(&self.next_u32().to_le_bytes()[..chunk.len()]);
            }
            Ok(())
        }
    }

    const KEY: Key = Key(0x0123_4567_89ab_cdef);

    #[test]
    fn a_stream_is_its_blocks() {
        let mut stream = KEY.stream();
        let drawn: Vec<u32> = (0..20 * BLOCKS).map(|_| stream.next_u32()).collect();
        let blocks: Vec<[u32; 4]> = (0..5 * BLOCKS as u64).map(|n| KEY.bits(n)).collect();
        assert_eq!(drawn, blocks.as_flattened());
    }

    #[test]
    fn blocks_whose_number_has_more_than_32_bits_are_the_same_together() {
        let first = u64::from(u32::MAX) - 2;
        let mut blocks = [[0; 4]; BLOCKS];
        Arch::new().dispatch(Refill {
            key: KEY,
            first,
            blocks: &mut blocks,
        });
        for (number, block) in (first..).zip(blocks) {
            assert_eq!(block, KEY.bits(number));
        }
    }

    #[test]
    fn numbers_of_every_size_continue_where_the_last_one_ended() {
        let (mut stream, mut words) = (KEY.stream(), Words(KEY, 0));
        for number in 0..10_000 {
            match words.0.fold(number).bits(0)[0] % 3 {
                0 => assert_eq!(stream.next_u32(), words.next_u32(), "{number}"),
                1 => assert_eq!(stream.next_u64(), words.next_u64(), "{number}"),
                _ => {
                    let [mut found, mut expected] = [[0; 300]; 2];
                    let length = number as usize % 300;
                    stream.fill_bytes(&mut found[..length]);
                    words.fill_bytes(&mut expected[..length]);
                    assert_eq!(found, expected, "{number}");
                }
            }
        }
    }

    #[test]
    fn normals_do_not_depend_on_how_blocks_are_computed() {
        let (mut stream, mut words) = (KEY.stream(), Words(KEY, 0));
        for number in 0..100_000 {
            let [found, expected]: [f32; 2] = [
                StandardNormal.sample(&mut stream),
                StandardNormal.sample(&mut words),
            ];
            assert_eq!(found.to_bits(), expected.to_bits(), "{number}");
        }
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
