//! Asks for rows at random positions before they are needed: they are not in the nearest cache, and the processor does
//! not see them coming.

use crate::kernels::cpu::element::Element;
use crate::kernels::cpu::host::Rows;
use crate::kernels::cpu::simd::prefetch;
use crate::kernels::cpu::tile::NOWHERE;

/// How many rows before its use a row is asked for.
const ROWS_AHEAD: usize = 8;

/// How many rows are asked for while a block of a product is computed. Few, since a processor waits for a few tens of
/// lines at once, and stands still if asked for more.
const ROWS_MEANWHILE: usize = 2;

/// Asks for the row at the position that follows in a few steps.
#[inline(always)]
pub(super) fn prefetch_ahead<'a, E: 'a>(
    positions: &[u32],
    at: usize,
    row: impl Fn(usize) -> &'a [E],
) {
    if let Some(&position) = positions.get(at + ROWS_AHEAD)
        && position != NOWHERE
    {
        prefetch(row(position as usize));
    }
}

/// A function that asks for rows at the next few positions each time that it is called.
#[inline(always)]
pub(super) fn prefetch_rows<E: Element, const N: usize>(
    mut positions: impl Iterator<Item = u32>,
    of: [Rows<E>; N],
) -> impl FnMut() {
    #[inline(always)]
    move || {
        for position in positions.by_ref().take(ROWS_MEANWHILE) {
            if position == NOWHERE {
                continue;
            }
            for rows in of {
                prefetch(rows.row(position as usize));
            }
        }
    }
}
