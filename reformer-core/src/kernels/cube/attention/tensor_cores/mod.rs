//! The same attention on tensor cores, in half precision with accumulation in single precision.
//!
//! A plane has sixteen rows of its own, and two units share a row. In matrix products the plane
//! works as one; in between, each unit processes every other pair of its row. Products are
//! exchanged through shared memory, because the layout of a matrix in registers depends on the
//! hardware.

pub(super) mod forward;
pub(super) mod gradients;

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::cmma::{self, MatrixIdent, MatrixLayout};
use burn_cubecl::cubecl::prelude::*;

use super::plan::Plan;
use super::shared_rows::SharedRows;
use crate::kernels::cube::common::head_at;

/// Number of rows and columns of the multiplied matrices.
pub(super) const SIDE: u32 = 16;

/// Number of units in a plane, and of units that share a row.
pub(super) const PLANE: u32 = 32;
pub(super) const PER_ROW: u32 = 2;

/// Half-precision numbers per load: sixteen bytes.
pub(super) const EIGHT: u32 = 8;
pub(super) type Eight<F> = Vector<F, Const<8>>;

/// Alignment of matrices in bytes.
const ALIGNMENT: usize = 32;

/// Row stride in shared memory, in elements. Neighbouring rows begin in different banks.
pub(super) fn row_of(d: u32) -> u32 {
    d + EIGHT
}

/// The same for matrices of pairs in single precision, with one column for each other row.
pub(super) fn row_of_products(others: u32) -> u32 {
    others + 4
}

/// Allocates `n` rows of `d` features.
#[cube]
fn room<F: Float>(#[comptime] n: u32, #[comptime] d: u32) -> SharedMemory<Eight<F>> {
    SharedMemory::<Eight<F>>::new_aligned(
        comptime![(n * row_of(d) / EIGHT) as usize],
        comptime![ALIGNMENT],
    )
}

/// Allocates the products of a cube's rows with a block of others.
#[cube]
fn room_for_products(#[comptime] plan: Plan) -> SharedMemory<f32> {
    SharedMemory::<f32>::new_aligned(
        comptime![(plan.rows * row_of_products(plan.others)) as usize],
        comptime![ALIGNMENT],
    )
}

/// Allocates factors for the second product, such as weights.
#[cube]
fn room_for_factors<F: Float>(#[comptime] rows: u32, #[comptime] others: u32) -> SharedMemory<F> {
    SharedMemory::<F>::new_aligned(
        comptime![(rows * row_of(others)) as usize],
        comptime![ALIGNMENT],
    )
}

/// Copies the rows of a block to shared memory, zeros for empty slots.
#[cube]
fn load_rows<F: Float>(
    to: &mut SharedMemory<Eight<F>>,
    from: &Tensor<Eight<F>>,
    head: u32,
    shared: &SharedRows,
    divisors: &Tensor<f32>,
    first_divisor: usize,
    #[comptime] n: u32,
    #[comptime] d: u32,
    #[comptime] divided: bool,
) {
    let eights = comptime![d / EIGHT];
    for i in range_stepped(UNIT_POS, n * eights, CUBE_DIM) {
        let number = i / eights;
        let position = shared.positions[number as usize];
        let mut eight = Eight::<F>::new(F::from_int(0));
        if position >= 0 {
            let row = head_at(from, head) + position as usize * from.stride(2);
            eight = from[row / comptime![EIGHT as usize] + (i % eights) as usize];
            if divided {
                let divisor = divisors[first_divisor + position as usize];
                let wide = Eight::<f32>::cast_from(eight) / Eight::<f32>::new(divisor);
                eight = Eight::<F>::cast_from(wide);
            }
        }
        to[(number * comptime![row_of(d) / EIGHT] + i % eights) as usize] = eight;
    }
}

/// An accumulator matrix of zeros.
#[cube]
fn zeros() -> cmma::Matrix<f32> {
    let side = comptime![SIDE as usize];
    cmma::Matrix::<f32>::from_value(
        MatrixIdent::Accumulator,
        side,
        side,
        side,
        MatrixLayout::Undefined,
        0.0f32,
    )
}

/// Multiplies a plane's rows with a block of others: `[rows, others]` for the cube.
#[cube]
fn multiply<F: Float>(
    own: &SharedMemory<Eight<F>>,
    theirs: &SharedMemory<Eight<F>>,
    products: &mut SharedMemory<f32>,
    #[comptime] d: u32,
    #[comptime] others: u32,
) {
    let side = comptime![SIDE as usize];
    let row = comptime![row_of(d)];
    let of_tile = comptime![SIDE * row / EIGHT];
    let first = UNIT_POS_Y * of_tile;
    let to = UNIT_POS_Y * comptime![SIDE * row_of_products(others)];
    #[unroll]
    for tile in 0..comptime![others / SIDE] {
        let sums = zeros();
        #[unroll]
        for step in 0..comptime![d / SIDE] {
            let column = comptime![step * SIDE / EIGHT];
            let zero = F::from_int(0);
            let a = cmma::Matrix::<F>::from_value(
                MatrixIdent::A,
                side,
                side,
                side,
                MatrixLayout::RowMajor,
                zero,
            );
            let b = cmma::Matrix::<F>::from_value(
                MatrixIdent::B,
                side,
                side,
                side,
                MatrixLayout::ColMajor,
                zero,
            );
            let at = (first + column) as usize;
            cmma::load(&a, &own.slice(at, at + comptime![of_tile as usize]), row);
            let at = (tile * of_tile + column) as usize;
            cmma::load(&b, &theirs.slice(at, at + comptime![of_tile as usize]), row);
            cmma::execute::<F, F, f32, f32>(&a, &b, &sums, &sums);
        }
        store(
            &sums,
            products,
            to + tile * SIDE,
            comptime![row_of_products(others)],
        );
    }
}

/// Writes a matrix to shared memory.
#[cube]
fn store(from: &cmma::Matrix<f32>, to: &mut SharedMemory<f32>, at: u32, #[comptime] row: u32) {
    let mut slice = to.slice_mut(
        at as usize,
        (at + comptime![(SIDE - 1) * row + SIDE]) as usize,
    );
    cmma::store(&mut slice, from, row, MatrixLayout::RowMajor);
}

/// Adds to `sums` the product of a plane's `factors`, `[rows, others]` for the cube, with sixteen
/// features of the others, from index `tile * 16` on.
#[cube]
fn add_multiplied<F: Float>(
    sums: &cmma::Matrix<f32>,
    factors: &SharedMemory<F>,
    theirs: &SharedMemory<Eight<F>>,
    #[comptime] tile: u32,
    #[comptime] d: u32,
    #[comptime] others: u32,
) {
    let side = comptime![SIDE as usize];
    let row = comptime![row_of(d)];
    let of_tile = comptime![SIDE * row / EIGHT];
    let row_of_factors = comptime![row_of(others)];
    #[unroll]
    for step in 0..comptime![others / SIDE] {
        let zero = F::from_int(0);
        let a = cmma::Matrix::<F>::from_value(
            MatrixIdent::A,
            side,
            side,
            side,
            MatrixLayout::RowMajor,
            zero,
        );
        let b = cmma::Matrix::<F>::from_value(
            MatrixIdent::B,
            side,
            side,
            side,
            MatrixLayout::RowMajor,
            zero,
        );
        let at = (UNIT_POS_Y * comptime![SIDE * row_of_factors] + step * SIDE) as usize;
        let end = at + comptime![((SIDE - 1) * row_of_factors + SIDE) as usize];
        cmma::load(&a, &factors.slice(at, end), row_of_factors);
        let at = comptime![(step * of_tile + tile * SIDE / EIGHT) as usize];
        let end = comptime![at + of_tile as usize];
        cmma::load(&b, &theirs.slice(at, end), row);
        cmma::execute::<F, F, f32, f32>(&a, &b, sums, sums);
    }
}
