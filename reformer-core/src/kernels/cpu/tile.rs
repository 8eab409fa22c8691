//! A tile: some queries of one head, the keys in their reach, and the rules between them.

use crate::kernels::reference::{FORBIDDEN, SELF};
use crate::kernels::{Duplicates, KeyRule, TiledAttention};
use crate::random::Dropout;

/// Integer data of one head: where its positions stand.
pub(super) struct Head<'a> {
    pub(super) rules: &'a TiledAttention,
    /// Number of this head in the batch.
    pub(super) number: usize,
    pub(super) n_rounds: usize,
    pub(super) n_slots: usize,
    pub(super) seq_length: usize,
    /// `[n_rounds, n_slots]`
    pub(super) order: &'a [i32],
    /// `[n_rounds, seq_length]`
    pub(super) slot_of: &'a [i32],
    /// `[n_rounds, seq_length]`
    pub(super) buckets: &'a [i32],
    /// `[seq_length]`, or nothing
    pub(super) padded: Option<&'a [bool]>,
}

/// Position of a slot that holds none.
const EMPTY: i32 = -1;

/// Buffers for a tile, used again for the next one.
pub(super) struct Tile {
    /// Positions of the queries, [`EMPTY`] where there is none: `m`.
    pub(super) queries: Vec<i32>,
    /// Positions of the keys in reach: `w`.
    pub(super) keys: Vec<i32>,
    /// Logits, then weights: `[m, w]`.
    pub(super) logits: Vec<f32>,
    /// Factors of dropout, where there is any: `[m, w]`.
    pub(super) dropout: Vec<f32>,
    pub(super) q: Vec<f32>,
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
}

impl Tile {
    pub(super) fn new() -> Self {
        Self {
            queries: Vec::new(),
            keys: Vec::new(),
            logits: Vec::new(),
            dropout: Vec::new(),
            q: Vec::new(),
            k: Vec::new(),
            v: Vec::new(),
        }
    }

    /// Looks up which positions the tile holds and reaches.
    pub(super) fn place(&mut self, head: &Head, round: usize, number: usize) {
        let shape = head.rules.tile;
        let n_tiles = head.n_slots / shape.length;
        let slots = |tile: usize| tile * shape.length..(tile + 1) * shape.length;
        self.queries.clear();
        self.queries
            .extend_from_slice(&head.order[slots(round * n_tiles + number)]);
        self.keys.clear();
        for offset in 0..shape.reach() {
            // Counted over all rounds, from `before` tiles back.
            let tile = (round * n_tiles + number + offset) as i64 - shape.before as i64;
            let in_round = tile - (round * n_tiles) as i64;
            if shape.wrap {
                let all = (head.n_rounds * n_tiles) as i64;
                let tile = tile.rem_euclid(all) as usize;
                self.keys.extend_from_slice(&head.order[slots(tile)]);
            } else if (0..n_tiles as i64).contains(&in_round) {
                self.keys
                    .extend_from_slice(&head.order[slots(tile as usize)]);
            } else {
                self.keys.extend(core::iter::repeat_n(EMPTY, shape.length));
            }
        }
    }

    /// Gathers the rows of queries, keys and values.
    pub(super) fn gather(&mut self, [q, k, v]: [&[f32]; 3], [d, d_v]: [usize; 2]) {
        gather(&mut self.q, &self.queries, q, d);
        gather(&mut self.k, &self.keys, k, d);
        gather(&mut self.v, &self.keys, v, d_v);
    }

    /// Masked logits: `q · k - log N`, [`SELF`] for the query itself, [`FORBIDDEN`] for what it
    /// must not see.
    pub(super) fn compute_logits(&mut self, head: &Head, round: usize, d: usize) {
        let (m, w) = (self.queries.len(), self.keys.len());
        self.logits.resize(m * w, 0.0);
        product(
            &mut self.logits,
            [m, d, w],
            (&self.q, [d, 1]),
            (&self.k, [1, d]),
        );
        let rules = head.rules;
        for (i, &query) in self.queries.iter().enumerate() {
            let row = &mut self.logits[i * w..(i + 1) * w];
            for (logit, &key) in row.iter_mut().zip(&self.keys) {
                if query == EMPTY || key == EMPTY {
                    *logit = FORBIDDEN;
                } else if rules.exclude_self && key == query {
                    *logit = SELF;
                } else if !head.sees(round, query, key) {
                    *logit = FORBIDDEN;
                } else if rules.duplicates == Duplicates::Exact && head.n_rounds > 1 {
                    *logit -= (head.count(query, key) as f32).ln();
                }
            }
        }
    }

    /// Draws the factors of dropout for the tile.
    pub(super) fn draw_dropout(&mut self, head: &Head, round: usize, number: usize) {
        self.dropout.clear();
        let Some((rate, key)) = head.rules.dropout else {
            return;
        };
        let size = self.queries.len() * self.keys.len();
        let n_tiles = head.n_slots / head.rules.tile.length;
        let first = (head.number * n_tiles + number) * size;
        let dropout = Dropout::new(key.fold(round as u64), rate);
        self.dropout.resize(size, 0.0);
        dropout.fill(first, &mut self.dropout);
    }

    /// Multiplies `[m, w]` numbers with the factors of dropout, if any.
    pub(super) fn drop(&self, values: &mut [f32]) {
        for (value, factor) in values.iter_mut().zip(&self.dropout) {
            *value *= factor;
        }
    }
}

impl Head<'_> {
    fn of(&self, numbers: &[i32], round: usize, position: i32) -> i32 {
        numbers[round * self.seq_length + position as usize]
    }

    /// Whether a query sees a key that is in reach of its tile.
    fn sees(&self, round: usize, query: i32, key: i32) -> bool {
        if self.rules.causal && key > query {
            return false;
        }
        if self.padded.is_some_and(|padded| padded[key as usize]) {
            return false;
        }
        self.in_window(round, query, key, true)
    }

    /// What the rule about keys says; `reached` tells that the tiles are near each other.
    fn in_window(&self, round: usize, query: i32, key: i32, reached: bool) -> bool {
        let same_bucket =
            || self.of(self.buckets, round, query) == self.of(self.buckets, round, key);
        let slots = || {
            (
                self.of(self.slot_of, round, query),
                self.of(self.slot_of, round, key),
            )
        };
        let near = || {
            let tile = self.rules.tile;
            let (query, key) = slots();
            let distance = query / tile.length as i32 - key / tile.length as i32;
            -(tile.after as i32) <= distance && distance <= tile.before as i32
        };
        match self.rules.keys {
            KeyRule::Across => reached || near(),
            KeyRule::SameBucket => same_bucket() && (reached || near()),
            KeyRule::Band(band) => {
                let (query, key) = slots();
                same_bucket() && query.abs_diff(key) as usize <= band
            }
        }
    }

    /// `N_ij`: in how many rounds a query sees a key that it sees in one.
    fn count(&self, query: i32, key: i32) -> usize {
        (0..self.n_rounds)
            .filter(|&round| self.in_window(round, query, key, false))
            .count()
    }
}

/// Rows at positions; zeros for empty ones.
pub(super) fn gather(rows: &mut Vec<f32>, positions: &[i32], of: &[f32], d: usize) {
    rows.clear();
    for &position in positions {
        match usize::try_from(position) {
            Ok(position) => rows.extend_from_slice(&of[position * d..(position + 1) * d]),
            Err(_) => rows.extend(core::iter::repeat_n(0.0, d)),
        }
    }
}

/// Adds rows to those at their positions; what belongs to empty ones is dropped.
pub(super) fn scatter_add(to: &mut [f32], positions: &[i32], rows: &[f32], d: usize) {
    for (&position, row) in positions.iter().zip(rows.chunks_exact(d)) {
        let Ok(position) = usize::try_from(position) else {
            continue;
        };
        let to = &mut to[position * d..(position + 1) * d];
        for (to, value) in to.iter_mut().zip(row) {
            *to += value;
        }
    }
}

/// `output = a b` with `output` `[m, n]` row-major, `a` `[m, k]` and `b` `[k, n]`, each with the
/// strides of its rows and columns.
pub(super) fn product(
    output: &mut [f32],
    [m, k, n]: [usize; 3],
    (a, a_strides): (&[f32], [usize; 2]),
    (b, b_strides): (&[f32], [usize; 2]),
) {
    let last = |[rows, columns]: [usize; 2], [row, column]: [usize; 2]| {
        (rows - 1) * row + (columns - 1) * column
    };
    assert!(m > 0 && k > 0 && n > 0, "an empty product: {m} x {k} x {n}");
    assert_eq!(output.len(), m * n, "output of {m} x {n}");
    assert!(last([m, k], a_strides) < a.len(), "a of {m} x {k}");
    assert!(last([k, n], b_strides) < b.len(), "b of {k} x {n}");
    // SAFETY: the assertions above show that every element that the sizes and strides lead to is
    // inside its slice, and `output` is borrowed exclusively.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            output.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            a_strides[1] as isize,
            a_strides[0] as isize,
            b.as_ptr(),
            b_strides[1] as isize,
            b_strides[0] as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
