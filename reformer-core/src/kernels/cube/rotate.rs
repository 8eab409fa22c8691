//! Rotation of heads by position. The host only prepares a frequency for each pair of features: a
//! unit computes the sine and the cosine of its angle and rotates that pair in all heads.
//!
//! Frequencies are fixed-point numbers in units of 2^-64 turns. Whole turns of `position * frequency`
//! are then dropped by integer overflow, and the remainder is exact to 2^-32 of a turn at any position.
//! In floating point, the angle of position 1,000,000 would have two or three digits.

use burn::tensor::{DType, TensorData};
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;

use super::common::UNITS;
use super::device::{Cube, Floats, Ints, empty, offsets, side_by_side, width};
use super::rows::dims;
use super::strided::{Strided, strided};
use crate::kernels::Rotation;
use crate::position::frequencies;

/// Radians per angle unit of 2^-32 turns.
const PART: f32 = (core::f64::consts::TAU / 4_294_967_296.0) as f32;

/// A point on the unit circle.
#[derive(CubeType, Clone, Copy)]
struct Point {
    cos: f32,
    sin: f32,
}

/// The point at an angle in units of 2^-32 turns. The angle is reduced to an eighth of a turn
/// around the nearest quarter, where a few terms of the series reach the precision of `f32`; a
/// GPU's own sine may have half of the digits.
#[cube]
fn point_at(angle: u32) -> Point {
    let quarter = (angle + 0x2000_0000u32) >> 30u32;
    let rest = (angle - (quarter << 30u32)) as i32;
    let x = f32::cast_from(rest) * comptime![PART];
    let square = x * x;
    let sin = x
        * (1.0
            + square
                * (-1.0 / 6.0
                    + square
                        * (1.0 / 120.0 + square * (-1.0 / 5040.0 + square * (1.0 / 362_880.0)))));
    let cos = 1.0
        + square
            * (-0.5
                + square
                    * (1.0 / 24.0
                        + square
                            * (-1.0 / 720.0
                                + square * (1.0 / 40_320.0 + square * (-1.0 / 3_628_800.0)))));
    let mut at = cos;
    let mut up = sin;
    if quarter % 2u32 == 1u32 {
        at = -sin;
        up = cos;
    }
    if quarter % 4u32 >= 2u32 {
        at = -at;
        up = -up;
    }
    Point { cos: at, sin: up }
}

/// A unit rotates a vector of adjacent pairs at one position, in every head.
#[cube(launch, address_type = "dynamic")]
fn rotation<F: Float, N: Size>(
    heads: &Strided<Vector<F, N>>,
    output: &mut Strided<Vector<F, N>>,
    frequencies: &Array<u32>,
    positions: &ComptimeOption<Array<u32>>,
    sign: f32,
    n_units: usize,
    #[comptime] pairs: usize,
    #[comptime] width: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= n_units {
        terminate!();
    }
    let groups = comptime![pairs / width];
    let group = ABSOLUTE_POS % groups;
    let at = ABSOLUTE_POS / groups % heads.length;
    let batch = ABSOLUTE_POS / groups / heads.length;
    let mut position = at as u32;
    #[comptime]
    match positions {
        ComptimeOption::Some(positions) => position = positions[batch],
        ComptimeOption::None => {}
    }
    let mut cos = Vector::<f32, N>::empty();
    let mut sin = Vector::<f32, N>::empty();
    #[unroll]
    for i in 0..width {
        let pair = group * width + i;
        let angle = position * frequencies[pair] + position.mul_hi(frequencies[pairs + pair]);
        let point = point_at(angle);
        cos[i] = point.cos;
        sin[i] = point.sin * sign;
    }
    let from = heads.at(batch, at) + group;
    let to = output.at(batch, at) + group;
    for head in 0..heads.n_heads as usize {
        let from = from + head * heads.of_head;
        let to = to + head * output.of_head;
        let first = Vector::<f32, N>::cast_from(heads.vectors[from]);
        let second = Vector::<f32, N>::cast_from(heads.vectors[from + groups]);
        output.vectors[to] = Vector::cast_from(first * cos - second * sin);
        output.vectors[to + groups] = Vector::cast_from(second * cos + first * sin);
    }
}

/// Frequencies in units of 2^-64 turns: the upper words of all, then the lower words.
fn words(pairs: usize, base: f64) -> Vec<u32> {
    let turns = frequencies(pairs, base)
        .into_iter()
        .map(|frequency| ((frequency / core::f64::consts::TAU).fract() * 2f64.powi(64)) as u64);
    let turns: Vec<u64> = turns.collect();
    let upper = turns.iter().map(|turns| (turns >> 32) as u32);
    upper
        .chain(turns.iter().map(|turns| *turns as u32))
        .collect()
}

/// See [`ReformerBackend::rotate`](crate::kernels::ReformerBackend::rotate).
pub(in crate::kernels) fn rotate<B: Cube>(
    heads: Floats<B, 4>,
    base: f64,
    rotation: Rotation,
) -> Floats<B, 4> {
    rotated(heads, None, base, rotation)
}

/// See [`ReformerBackend::rotate_at`](crate::kernels::ReformerBackend::rotate_at).
pub(in crate::kernels) fn rotate_at<B: Cube>(
    heads: Floats<B, 4>,
    positions: &[usize],
    base: f64,
) -> Floats<B, 4> {
    rotated(heads, Some(positions), base, Rotation::Apply)
}

/// Rotation by the given positions, or by all in their order. The output has the memory layout
/// `[batch_size, seq_length, n_heads, d_head]`, so that merging the heads copies nothing.
fn rotated<B: Cube>(
    heads: Floats<B, 4>,
    positions: Option<&[usize]>,
    base: f64,
    direction: Rotation,
) -> Floats<B, 4> {
    let device = heads.device();
    let heads = side_by_side(B::floats(heads));
    let [batch_size, n_heads, seq_length, d_head] = dims(&heads);
    assert!(
        d_head.is_multiple_of(2),
        "heads of {:?} have no pairs of features",
        dims(&heads)
    );
    let pairs = d_head / 2;
    let mut output = empty(
        &heads,
        [batch_size, seq_length, n_heads, d_head],
        heads.dtype,
    );
    output.meta.swap(1, 2);
    // The second half of a head must begin at a vector too.
    let width = match pairs.is_multiple_of(super::common::WIDTH) {
        true => width(&[&heads, &output]),
        false => 1,
    };
    let on_device = |words: Vec<u32>| {
        let n = words.len();
        let data = TensorData::new(words, [n]);
        B::ints(Ints::<B, 1>::from_data(data, (&device, DType::U32)))
    };
    let positions = positions.map(|positions| {
        let positions = positions.iter().map(|position| *position as u32);
        on_device(positions.collect()).into_array_arg()
    });
    let n_units = batch_size * seq_length * pairs / width;
    let units = CubeDim::new_1d(UNITS);
    let client = heads.client.clone();
    let dtype = heads.dtype;
    rotation::launch(
        &client,
        calculate_cube_count_elemwise(&client, n_units, units),
        units,
        offsets(&[&heads, &output]),
        width,
        strided(heads, width),
        strided(output.clone(), width),
        on_device(words(pairs, base)).into_array_arg(),
        positions.into(),
        direction.sign(),
        n_units,
        pairs,
        width,
        dtype.into(),
    );
    B::of_floats(output)
}
