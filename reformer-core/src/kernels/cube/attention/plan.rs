//! Division of an attention call into cubes, and the compile-time rules of its kernels.

use burn_cubecl::cubecl::prelude::*;

use super::tensor_cores::{BUFFERS, bytes_of_info, units_of};
use crate::kernels::cube::matrices::{PLANE, SIDE, row_of};
use crate::kernels::{KeyRule, Masking, TiledAttention};
use crate::random::Key;

/// Maximum bytes of shared memory per cube, if available: two cubes or more then fit a
/// multiprocessor of any current GPU.
const SHARED_BYTES: usize = 24 * 1024;

/// The same with tensor cores. Such GPUs have more shared memory, and need larger blocks.
const SHARED_BYTES_ON_TENSOR_CORES: usize = 60 * 1024;

/// Bytes of shared memory for the metadata of rows on both sides without tensor cores.
const SHARED_BYTES_OF_ROW_INFO: usize = 4 * 1024;

/// With more features, not even the rows of one plane fit.
const MOST_FEATURES_ON_TENSOR_CORES: u32 = 256;

/// A sweep over all pairs of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sweep {
    Forward,
    /// Backward, for the rows of queries or of keys.
    OfQueries,
    OfKeys,
}

impl Sweep {
    const ALL: [Self; 3] = [Self::Forward, Self::OfQueries, Self::OfKeys];

    /// Number of matrices of pairs that a cube keeps.
    fn matrices(self) -> u32 {
        match self {
            Self::Forward => 1,
            Self::OfQueries | Self::OfKeys => 2,
        }
    }

    /// Number of features of a row per unit without tensor cores, all in registers: forward has
    /// queries and sums of values, backward up to four such rows.
    fn width(self) -> u32 {
        match self {
            Self::Forward => 32,
            Self::OfQueries | Self::OfKeys => 16,
        }
    }
}

/// Compile-time parameters of kernels. A cube has `rows` rows of its own, queries or keys, and
/// processes `others` rows of the other side at a time. `parts` units share a row: each keeps some
/// of its features in registers, within the limits of a multiprocessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Plan {
    pub(super) rows: u32,
    pub(super) others: u32,
    pub(super) parts: u32,
    /// Number of features of queries and keys, and of values.
    pub(super) d_head: u32,
    pub(super) d_v: u32,
    /// Whether positions are sorted into slots; otherwise they are in natural order, and a tile is
    /// the whole sequence.
    pub(super) sorted: bool,
    /// See [`TileShape`](crate::kernels::TileShape).
    pub(super) length: u32,
    pub(super) before: u32,
    pub(super) after: u32,
    pub(super) wrap: bool,
    /// Whether keys must be near by [`TiledAttention::nearness`].
    pub(super) near: bool,
    /// Number of rounds if weights are divided by those that see the key, otherwise zero.
    pub(super) counted_rounds: u32,
    pub(super) causal: bool,
    pub(super) exclude_self: bool,
    pub(super) padded: bool,
    pub(super) dropout: bool,
    pub(super) unit_keys: bool,
    /// Whether the cube's own rows are keys.
    pub(super) of_keys: bool,
}

/// Limits of a cube on a device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Number of units.
    pub(super) units: u32,
    /// Bytes of shared memory: 227 KiB on an H100, 48 KiB through Vulkan, at least 16 KiB in WebGPU.
    pub(super) shared_bytes: usize,
}

impl Limits {
    pub(super) fn of<R: Runtime>(client: &ComputeClient<R>) -> Self {
        let hardware = &client.properties().hardware;
        Self {
            units: hardware.max_units_per_cube,
            shared_bytes: hardware.max_shared_memory_size,
        }
    }

    /// Bytes available for rows and pairs without tensor cores.
    fn room(self) -> usize {
        self.shared_bytes.saturating_sub(SHARED_BYTES_OF_ROW_INFO)
    }
}

impl Plan {
    /// Number of vectors of four per unit in a row of `d` features.
    pub(super) fn fours(&self, d: u32) -> u32 {
        d.div_ceil(4).div_ceil(self.parts)
    }

    /// Number of cubes for the rows of a tile.
    pub(super) fn cubes_of_tile(&self) -> u32 {
        self.length.div_ceil(self.rows)
    }

    /// Whether sort keys of positions are compared: see [`sort_keys`](super::sort_keys::sort_keys).
    pub(super) fn compares_sort_keys(&self) -> bool {
        self.near || self.counted_rounds > 0
    }

    /// Number of slots that a query can reach.
    pub(super) fn reach(&self) -> u32 {
        (self.before + 1 + self.after) * self.length
    }

    /// The plan for a sweep, and the units of a cube. Uses tensor cores if `on_tensor_cores`.
    pub(super) fn cut(
        self,
        sweep: Sweep,
        n_rows: usize,
        on_tensor_cores: bool,
        limits: Limits,
    ) -> (Self, CubeDim) {
        let rules = Self {
            of_keys: sweep == Sweep::OfKeys,
            ..self
        };
        let rows = if self.sorted {
            self.length
        } else {
            n_rows as u32
        };
        if on_tensor_cores {
            let plan = rules.cut_for_tensor_cores(sweep, rows, limits);
            return (plan, CubeDim::new_2d(PLANE, units_of(plan.rows) / PLANE));
        }
        let plan = rules.cut_for_units(sweep, rows, limits);
        (plan, CubeDim::new_2d(plan.rows, plan.parts))
    }

    fn cut_for_units(mut self, sweep: Sweep, rows: u32, limits: Limits) -> Self {
        let width = sweep.width();
        self.parts = self
            .d_head
            .max(self.d_v)
            .div_ceil(width)
            .next_power_of_two();
        let most = (128.min(limits.units) / self.parts).clamp(1, 64);
        // Blocks of equal size, so that the last one is not nearly empty; and if there are enough
        // rows, no part of a plane is idle.
        let even = rows.div_ceil(rows.div_ceil(most));
        self.rows = even.next_multiple_of(8).min(most);
        self.others = 16;
        let room = SHARED_BYTES.min(limits.room());
        while self.others > 1 && self.shared_bytes(sweep) > room {
            self.others /= 2;
        }
        self
    }

    fn shared_bytes(&self, sweep: Sweep) -> usize {
        let rows = 4 * self.parts * (self.fours(self.d_head) + self.fours(self.d_v));
        let pairs = self.parts * self.rows * sweep.matrices() + self.rows;
        (self.others * (rows + pairs) * 4) as usize
    }

    /// Whether tensor cores support rows of these sizes: whole matrices that fit shared memory.
    pub(super) fn suits_tensor_cores(&self, limits: Limits) -> bool {
        let suits = |d: u32| d.is_multiple_of(SIDE) && d <= MOST_FEATURES_ON_TENSOR_CORES;
        let fits = |sweep: Sweep| {
            let of_one_plane = Self {
                rows: SIDE,
                others: PLANE,
                of_keys: sweep == Sweep::OfKeys,
                ..*self
            };
            of_one_plane.shared_bytes_on_tensor_cores(sweep) <= limits.shared_bytes
        };
        suits(self.d_head) && suits(self.d_v) && Sweep::ALL.into_iter().all(fits)
    }

    /// Four planes and blocks of 32, or fewer planes if rows are long or few.
    fn cut_for_tensor_cores(mut self, sweep: Sweep, rows: u32, limits: Limits) -> Self {
        let room = SHARED_BYTES_ON_TENSOR_CORES.min(limits.shared_bytes);
        self.parts = 1;
        self.others = PLANE;
        let mut planes = 4;
        loop {
            let most = planes * SIDE;
            self.rows = rows.div_ceil(rows.div_ceil(most)).next_multiple_of(SIDE);
            if planes == 1 || self.shared_bytes_on_tensor_cores(sweep) <= room {
                return self;
            }
            planes /= 2;
        }
    }

    /// Rows of both sides with their metadata; pairs are in registers.
    fn shared_bytes_on_tensor_cores(&self, sweep: Sweep) -> usize {
        let both = row_of(self.d_head) + row_of(self.d_v);
        let own = match sweep {
            Sweep::Forward => row_of(self.d_head),
            Sweep::OfQueries | Sweep::OfKeys => both,
        };
        let others = BUFFERS * self.others * both;
        (2 * (self.rows * own + others) + bytes_of_info(self)) as usize
    }

    /// Number of cubes for the rows of a head.
    pub(super) fn n_cubes(&self, n_rows: usize) -> usize {
        match self.sorted {
            true => n_rows / self.length as usize * self.cubes_of_tile() as usize,
            false => n_rows.div_ceil(self.rows as usize),
        }
    }

    pub(super) fn tiled(rules: &TiledAttention, n_rounds: usize) -> Self {
        let count = rules.counts_rounds(n_rounds);
        Self {
            sorted: true,
            length: rules.tile.length as u32,
            before: rules.tile.before as u32,
            after: rules.tile.after as u32,
            wrap: rules.tile.wrap,
            near: rules.keys != KeyRule::Across,
            counted_rounds: if count { n_rounds as u32 } else { 0 },
            ..Self::rules(rules.causal, rules.exclude_self, rules.dropout)
        }
    }

    pub(super) fn full(masking: &Masking<impl burn::tensor::backend::Backend>) -> Self {
        Self::rules(masking.causal, masking.exclude_self, masking.dropout)
    }

    fn rules(causal: bool, exclude_self: bool, dropout: Option<(f64, Key)>) -> Self {
        Self {
            rows: 0,
            others: 0,
            parts: 0,
            d_head: 0,
            d_v: 0,
            sorted: false,
            length: 1,
            before: 0,
            after: 0,
            wrap: false,
            near: false,
            counted_rounds: 0,
            causal,
            exclude_self,
            padded: false,
            dropout: dropout.is_some(),
            unit_keys: false,
            of_keys: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(d: u32) -> Plan {
        Plan {
            d_head: d,
            d_v: d,
            sorted: true,
            length: 128,
            before: 1,
            ..Plan::rules(true, true, None)
        }
    }

    /// Shared memory of CUDA, of Vulkan on the same card, and the guaranteed minimum of WebGPU.
    #[test]
    fn cubes_keep_to_the_shared_memory_of_the_device() {
        for shared_bytes in [232_448, 49_152, 32_768, 16_384] {
            let limits = Limits {
                units: 1024,
                shared_bytes,
            };
            for d in [16, 64, 128, 256] {
                for sweep in Sweep::ALL {
                    let (cut, _) = plan(d).cut(sweep, 1000, false, limits);
                    assert!(
                        cut.others == 1 || cut.shared_bytes(sweep) <= limits.room(),
                        "{d} features, {shared_bytes} bytes, {sweep:?}"
                    );
                    if plan(d).suits_tensor_cores(limits) {
                        let (cut, units) = plan(d).cut(sweep, 1000, true, limits);
                        assert!(cut.shared_bytes_on_tensor_cores(sweep) <= limits.shared_bytes);
                        assert_eq!(units.num_elems(), 2 * cut.rows);
                    }
                }
            }
            // GPUs with tensor cores have three times as much at least.
            for (d, too_few) in [(64, 16_384), (128, 32_768)] {
                assert_eq!(plan(d).suits_tensor_cores(limits), shared_bytes > too_few);
            }
        }
    }
}
