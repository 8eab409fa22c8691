//! The gradient of token embeddings: positions are sorted by token, and the rows of a token are
//! summed in the order of positions.
//!
//! A token may occur at almost every position, so the sorted positions are first summed in pieces
//! of fixed size, if a piece has a single token. The sum of a token then consists of its whole
//! pieces and of the remaining rows at both ends.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;

use super::common::{LANES, TEAMS, UNITS, cube_y, over_teams};
use super::device::{Cube, Floats, Ints, empty, offsets, side_by_side, width};
use super::sort::{Sorted, sort};
use super::strided::{Strided, strided};
use super::sums::{blocks_of_columns, units};
use crate::kernels::SlotLayout;

/// Sums the team's share of a range of sorted positions.
#[cube]
fn rows_of<I: Int, N: Size>(
    grad: &Strided<Vector<f32, N>>,
    order: &Array<I>,
    column: usize,
    first: u32,
    end: u32,
) -> Vector<f32, N> {
    let mut sum = Vector::<f32, N>::new(0.0);
    for slot in range_stepped(first + UNIT_POS_Y, end, TEAMS) {
        let row = u32::cast_from(order[slot as usize]) as usize;
        sum += grad.vectors[grad.row(row) + column];
    }
    sum
}

/// A cube sums a piece, if all its positions have the same token.
#[cube(launch, address_type = "dynamic")]
fn add_pieces<I: Int, N: Size>(
    grad: &Strided<Vector<f32, N>>,
    tokens: &Array<I>,
    order: &Array<I>,
    pieces: &mut Array<Vector<f32, N>>,
    n_rows: u32,
    size: u32,
    #[comptime] d: usize,
    #[comptime] width: usize,
    #[define(I)] _dtype: StorageType,
) {
    let columns = comptime![d / width];
    let column = (CUBE_POS_X * LANES + UNIT_POS_X) as usize;
    let piece = cube_y();
    let first = piece * size;
    // The sum of an incomplete last piece is never used.
    if first + size > n_rows {
        terminate!();
    }
    let earliest = u32::cast_from(order[first as usize]);
    let latest = u32::cast_from(order[(first + size - 1) as usize]);
    if tokens[earliest as usize] != tokens[latest as usize] {
        terminate!();
    }
    let mut shared = SharedMemory::<Vector<f32, N>>::new(comptime![UNITS as usize]);
    let own = min(column, comptime![columns - 1]);
    let sum = rows_of(grad, order, own, first, first + size);
    let sum = over_teams(sum, &mut shared);
    if UNIT_POS_Y == 0 && column < columns {
        pieces[piece as usize * columns + column] = sum;
    }
}

/// A cube sums all rows of a token.
#[cube(launch, address_type = "dynamic")]
fn add_tokens<I: Int, N: Size>(
    grad: &Strided<Vector<f32, N>>,
    order: &Array<I>,
    starts: &Array<u32>,
    pieces: &Array<Vector<f32, N>>,
    output: &mut Array<Vector<f32, N>>,
    n_rows: u32,
    n_tokens: u32,
    size: u32,
    #[comptime] d: usize,
    #[comptime] width: usize,
    #[define(I)] _dtype: StorageType,
) {
    let columns = comptime![d / width];
    let column = (CUBE_POS_X * LANES + UNIT_POS_X) as usize;
    let token = cube_y();
    if token >= n_tokens {
        terminate!();
    }
    let own = min(column, comptime![columns - 1]);
    let begin = starts[token as usize];
    let mut end = n_rows;
    if token + 1 < n_tokens {
        end = starts[(token + 1) as usize];
    }
    // Whole pieces.
    let first_piece = begin.div_ceil(size);
    let end_piece = end / size;
    let mut sum = Vector::<f32, N>::new(0.0);
    if first_piece < end_piece {
        sum += rows_of(grad, order, own, begin, first_piece * size);
        for piece in range_stepped(first_piece + UNIT_POS_Y, end_piece, TEAMS) {
            sum += pieces[piece as usize * columns + own];
        }
        sum += rows_of(grad, order, own, end_piece * size, end);
    } else {
        sum += rows_of(grad, order, own, begin, end);
    }
    let mut shared = SharedMemory::<Vector<f32, N>>::new(comptime![UNITS as usize]);
    let sum = over_teams(sum, &mut shared);
    if UNIT_POS_Y == 0 && column < columns {
        output[token as usize * columns + column] = sum;
    }
}

/// See [`ReformerBackend::token_vectors_backward`](crate::kernels::ReformerBackend::token_vectors_backward).
pub(in crate::kernels) fn token_vectors_backward<B: Cube>(
    weight: Floats<B, 2>,
    tokens: Ints<B, 2>,
    grad: Floats<B, 3>,
) -> Floats<B, 2> {
    let n_tokens = weight.dims()[0];
    let [batch_size, seq_length, d] = grad.dims();
    let n_rows = batch_size * seq_length;
    assert_eq!(
        tokens.dims(),
        [batch_size, seq_length],
        "tokens of a gradient {:?}",
        grad.dims()
    );
    let tokens = tokens.reshape([1, 1, 1, n_rows]);
    let Sorted { order, starts, .. } =
        sort::<B>(tokens.clone(), n_tokens, SlotLayout::Dense(1), false);
    let tokens = into_contiguous(B::ints(tokens));
    let grad = side_by_side(B::floats(grad));
    // Balances the number of pieces and the size of a piece, for a token at all positions.
    let size = n_rows.isqrt().max(TEAMS as usize);
    let n_pieces = n_rows.div_ceil(size);
    let pieces = empty(&grad, [n_pieces, d], DType::F32);
    let output = empty(&grad, [n_tokens, d], DType::F32);
    let width = width(&[&grad, &pieces, &output]);
    let client = grad.client.clone();
    let blocks = blocks_of_columns(d, width) as usize;
    let dtype = tokens.dtype;
    add_pieces::launch(
        &client,
        super::device::grid(&client, blocks, n_pieces),
        units(),
        offsets(&[&grad]),
        width,
        strided(grad.clone(), width),
        tokens.into_array_arg(),
        order.clone().into_array_arg(),
        pieces.clone().into_array_arg(),
        n_rows as u32,
        size as u32,
        d,
        width,
        dtype.into(),
    );
    add_tokens::launch(
        &client,
        super::device::grid(&client, blocks, n_tokens),
        units(),
        offsets(&[&grad, &output]),
        width,
        strided(grad, width),
        order.into_array_arg(),
        starts.into_array_arg(),
        pieces.into_array_arg(),
        output.clone().into_array_arg(),
        n_rows as u32,
        n_tokens as u32,
        size as u32,
        d,
        width,
        dtype.into(),
    );
    B::of_floats(output)
}
