//! The same attention on tensor cores, in half precision with accumulation in single precision.
//!
//! A plane has sixteen rows of its own. Products of matrices stay in the registers of its units: see
//! [`fragments`]. A unit has pairs of two rows, which it shares with the other three units of its
//! quad, so that only maxima and sums of rows are exchanged, by shuffles, and weights are factors of
//! the next product where they are.

mod copies;
pub(super) mod forward;
mod fragments;
pub(super) mod gradients;
mod pairs;
mod rows;

pub(super) use rows::bytes_of_info;

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use crate::kernels::cube::common::head_at;
use crate::kernels::cube::matrices::{EIGHT, Eight, HALF, OWN, PLANE, Pair, QUAD, SIDE, row_of};

/// Number of blocks of the other side whose rows are in shared memory: one is being processed while the next
/// one is being copied.
pub(super) const BUFFERS: u32 = 2;

/// Number of units in a cube with `rows` rows of its own.
pub(super) fn units_of(rows: u32) -> u32 {
    rows / SIDE * PLANE
}

/// The unit's index in its quad.
#[cube]
fn in_quad() -> u32 {
    UNIT_POS_X % QUAD
}

/// Where the rows of a head are in a tensor: the offset of the first one, and the distance of the
/// next one, in vectors.
#[derive(CubeType, Clone, Copy)]
struct Place {
    first: usize,
    row: usize,
}

/// The rows of a head, and the tensor that they are in.
#[derive(CubeType, Clone, Copy)]
struct HeadRows {
    tensor: Tensor<Eight>,
    place: Place,
}

#[cube]
fn rows_of_head(tensor: &Tensor<Eight>, head: u32) -> HeadRows {
    HeadRows {
        tensor: *tensor,
        place: place_of(tensor, head, comptime![EIGHT as usize]),
    }
}

#[cube]
fn place_of<E: CubePrimitive>(tensor: &Tensor<E>, head: u32, #[comptime] width: usize) -> Place {
    Place {
        first: head_at(tensor, head) / width,
        row: tensor.stride(2) / width,
    }
}
