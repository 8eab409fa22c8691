//! Counter-based random numbers, with the same bits as [`Key`](crate::Key) on the host.

use burn::tensor::Element;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;

use super::common::UNITS;
use super::device::{Cube, Floats, offsets};
use crate::random::{Dropout, Key};

/// The random bits of one counter.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Bits {
    pub(super) a: u32,
    pub(super) b: u32,
    pub(super) c: u32,
    pub(super) d: u32,
}

/// [`philox`](crate::random::philox) with the last two words of the counter that this library
/// uses: zero and the family of numbers.
#[cube]
pub(super) fn philox(low: u32, high: u32, family: u32, key_low: u32, key_high: u32) -> Bits {
    let mut a = low;
    let mut b = high;
    let mut c = 0u32.runtime();
    let mut d = family;
    let mut k = key_low;
    let mut l = key_high;
    let first = 0xD251_1F53u32.runtime();
    let second = 0xCD9E_8D57u32.runtime();
    for _ in 0..10 {
        let of_a = a * first;
        let above_a = a.mul_hi(first);
        let of_c = c * second;
        let above_c = c.mul_hi(second);
        a = above_c ^ b ^ k;
        b = of_c;
        c = above_a ^ d ^ l;
        d = of_a;
        k += 0x9E37_79B9u32;
        l += 0xBB67_AE85u32;
    }
    Bits { a, b, c, d }
}

/// The `n`-th child of a key, as two words.
#[cube]
pub(super) fn fold(n: u32, key_low: u32, key_high: u32) -> (u32, u32) {
    let bits = philox(n, 0u32.runtime(), 0u32.runtime(), key_low, key_high);
    (bits.a, bits.b)
}

/// Bits number `4 * block` to `4 * block + 3` of a key's stream.
#[cube]
pub(super) fn stream(low: u32, high: u32, key_low: u32, key_high: u32) -> Bits {
    philox(low, high, 1u32.runtime(), key_low, key_high)
}

/// Dropout factor with index `row * width + column`.
#[cube]
pub(super) fn factor(
    row: u32,
    width: u32,
    column: u32,
    key_low: u32,
    key_high: u32,
    threshold: u32,
    kept: f32,
) -> f32 {
    // The index has 64 bits.
    let start = row * width;
    let low = start + column;
    let mut high = row.mul_hi(width);
    if low < start {
        high += 1u32;
    }
    let bits = stream(
        (low >> 2u32) | (high << 30u32),
        high >> 2u32,
        key_low,
        key_high,
    );
    let lane = low & 3u32;
    let mut word = bits.a;
    if lane == 1 {
        word = bits.b;
    } else if lane == 2 {
        word = bits.c;
    } else if lane == 3 {
        word = bits.d;
    }
    select(word < threshold, 0.0f32.runtime(), kept)
}

/// A unit draws four factors.
#[cube(launch, address_type = "dynamic")]
fn draw<F: Float>(
    factors: &mut Array<F>,
    key_low: u32,
    key_high: u32,
    threshold: u32,
    kept: f32,
    #[define(F)] _dtype: StorageType,
) {
    let length = factors.len();
    if ABSOLUTE_POS < length.div_ceil(4) {
        let first = ABSOLUTE_POS * 4;
        let block = ABSOLUTE_POS as u32;
        let bits = stream(block, 0u32.runtime(), key_low, key_high);
        let kept = F::cast_from(kept);
        let dropped = F::from_int(0);
        factors[first] = select(bits.a < threshold, dropped, kept);
        if first + 1 < length {
            factors[first + 1] = select(bits.b < threshold, dropped, kept);
        }
        if first + 2 < length {
            factors[first + 2] = select(bits.c < threshold, dropped, kept);
        }
        if first + 3 < length {
            factors[first + 3] = select(bits.d < threshold, dropped, kept);
        }
    }
}

/// See [`ReformerBackend::dropout_factors`](crate::kernels::ReformerBackend::dropout_factors).
pub(in crate::kernels) fn dropout_factors<B: Cube, const D: usize>(
    shape: [usize; D],
    rate: f64,
    key: Key,
    device: &B::Device,
) -> Floats<B, D> {
    let (dropout, dtype) = (Dropout::new(key, rate), B::FloatElem::dtype());
    let n = shape.iter().product::<usize>();
    // Rows of a tensor created from a shape may be padded to addresses that suit the device.
    let factors = B::floats(Floats::<B, 1>::empty([n], (device, dtype)));
    let units = CubeDim::new_1d(UNITS);
    let [key_low, key_high] = dropout.key.words();
    draw::launch(
        &factors.client,
        calculate_cube_count_elemwise(&factors.client, n.div_ceil(4), units),
        units,
        offsets(&[&factors]),
        factors.clone().into_array_arg(),
        key_low,
        key_high,
        dropout.threshold,
        dropout.kept,
        dtype.into(),
    );
    B::of_floats::<1>(factors).reshape(shape)
}
