//! Copies of the features of rows to shared memory.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::rows::SharedInfo;
use super::{EIGHT, Eight, HeadRows, row_of, units_of};

/// Vectors that a unit copies of rows of `d` features, as many at a time as registers may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Copies {
    n: u32,
    d: u32,
    units: u32,
}

impl Copies {
    const AT_ONCE: u32 = 4;

    /// Of `n` rows of `d` features by a cube with `rows` rows of its own.
    pub(super) fn new(n: u32, d: u32, rows: u32) -> Self {
        let units = units_of(rows);
        Self { n, d, units }
    }

    fn all(self) -> u32 {
        self.n * self.d / EIGHT
    }

    /// Number of vectors of a unit in a batch.
    fn in_batch(self, batch: u32) -> u32 {
        let turns = self.all().div_ceil(self.units);
        turns
            .saturating_sub(batch * Self::AT_ONCE)
            .min(Self::AT_ONCE)
    }

    pub(super) fn batches(self) -> u32 {
        self.all().div_ceil(self.units).div_ceil(Self::AT_ONCE)
    }

    /// Whether some units have no vector in a turn.
    fn is_partial(self, turn: u32) -> bool {
        (turn + 1) * self.units > self.all()
    }
}

/// Copies rows of features to shared memory, zeros for empty slots: those whose metadata begin with
/// row `first`.
#[cube]
pub(super) fn load_rows(
    to: &mut SharedMemory<Eight>,
    from: &HeadRows,
    shared: &SharedInfo,
    first: u32,
    #[comptime] copies: Copies,
) {
    #[unroll]
    for batch in 0..comptime![copies.batches()] {
        let eights = fetch(from, shared, first, batch, copies);
        store(to, &eights, batch, copies);
    }
}

/// The same for the rows of a head in two tensors, which are read together.
#[cube]
pub(super) fn load_both(
    to: &mut SharedMemory<Eight>,
    from: &HeadRows,
    second_to: &mut SharedMemory<Eight>,
    second_from: &HeadRows,
    shared: &SharedInfo,
    first: u32,
    #[comptime] copies: Copies,
    #[comptime] second: Copies,
) {
    #[unroll]
    for batch in 0..comptime![copies.batches().max(second.batches())] {
        let eights = fetch(from, shared, first, batch, copies);
        let second_eights = fetch(second_from, shared, first, batch, second);
        store(to, &eights, batch, copies);
        store(second_to, &second_eights, batch, second);
    }
}

/// Reads the unit's vectors of a batch.
#[cube]
fn fetch(
    from: &HeadRows,
    shared: &SharedInfo,
    first: u32,
    #[comptime] batch: u32,
    #[comptime] copies: Copies,
) -> Array<Eight> {
    let row = comptime![copies.d / EIGHT];
    let n = comptime![copies.in_batch(batch)];
    let mut eights = Array::<Eight>::new(comptime![Ord::max(n, 1) as usize]);
    #[unroll]
    for turn in 0..n {
        let i = comptime![(batch * Copies::AT_ONCE + turn) * copies.units] + UNIT_POS;
        let mut number = i / row;
        if comptime![copies.is_partial(batch * Copies::AT_ONCE + turn)] {
            number = min(number, comptime![copies.n - 1].runtime());
        }
        let position = shared.infos[(first + number) as usize][0];
        let mut eight = Eight::new(0);
        if position >= 0 {
            // A position is a row of the tensor.
            let at = from.place.first + position as usize * from.place.row + (i % row) as usize;
            eight = from.tensor.read_unchecked(at);
        }
        eights[turn as usize] = eight;
    }
    eights
}

/// Writes the unit's vectors of a batch.
#[cube]
fn store(
    to: &mut SharedMemory<Eight>,
    eights: &Array<Eight>,
    #[comptime] batch: u32,
    #[comptime] copies: Copies,
) {
    let row = comptime![copies.d / EIGHT];
    #[unroll]
    for turn in 0..comptime![copies.in_batch(batch)] {
        let i = comptime![(batch * Copies::AT_ONCE + turn) * copies.units] + UNIT_POS;
        let at = (i / row * comptime![row_of(copies.d) / EIGHT] + i % row) as usize;
        if comptime![copies.is_partial(batch * Copies::AT_ONCE + turn)] {
            if i < comptime![copies.all()] {
                to[at] = eights[turn as usize];
            }
        } else {
            to[at] = eights[turn as usize];
        }
    }
}
