//! Selections of keys: the neighbours, hashing of several kinds, and the best possible.

use burn::tensor::{Tensor, TensorData};
use reformer_core::Key;
use reformer_core::attention::{hash, rotations};
use reformer_core::kernels::ReformerBackend;

use super::head::HeadVectors;

/// Numbers of hash rounds, the largest last.
pub(crate) const ROUNDS: [usize; 5] = [1, 2, 4, 8, 16];

/// The vectors that are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HashedVectors {
    /// Queries before they are rotated by position, as in reformer_pytorch.
    Projected,
    /// Queries as they enter the logits, rotated by position.
    Rotated,
    /// Rotated queries, less their mean over the sequence.
    Centred,
}

/// The keys of a bucket, or near it, that a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WindowRule {
    /// The last keys of its bucket, this many.
    Bucket(usize),
    /// Its own and the previous chunk of the sorted sequence, within the bucket or across buckets.
    Chunk {
        /// Positions in a chunk.
        length: usize,
        /// Whether it sees only keys of its own bucket.
        within: bool,
    },
}

impl WindowRule {
    /// Positions in a window of a bucket, or in a chunk.
    fn len(self) -> usize {
        match self {
            Self::Bucket(len) => len,
            Self::Chunk { length, .. } => length,
        }
    }
}

/// Two buckets for each window's length, as the automatic choice has it, from 2 to 128: above that only the
/// window grows.
fn n_buckets(seq_length: usize, window: usize) -> usize {
    (2 * seq_length / window).clamp(2, 128).next_multiple_of(2)
}

/// A method of selecting keys, for growing numbers of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selection {
    /// The last keys.
    Recent,
    /// The keys with the largest weights.
    Best,
    /// Keys found by hashing in [`ROUNDS`] rounds, and the neighbours if there is a local round.
    Hashed {
        /// The hashed vectors.
        vectors: HashedVectors,
        /// The keys seen in a round.
        window: WindowRule,
        /// Whether there is a local round.
        local: bool,
    },
}

impl Selection {
    /// Its label in tables and figures.
    pub(crate) fn label(self) -> String {
        let Self::Hashed {
            vectors,
            window,
            local,
        } = self
        else {
            return match self {
                Self::Recent => "last keys".to_owned(),
                _ => "best possible".to_owned(),
            };
        };
        let vectors = match vectors {
            HashedVectors::Projected => "unrotated",
            HashedVectors::Rotated => "rotated",
            HashedVectors::Centred => "rotated, centred",
        };
        let window = match window {
            WindowRule::Bucket(len) => format!("last {len} of the bucket"),
            WindowRule::Chunk { within: true, .. } => "chunks within".to_owned(),
            WindowRule::Chunk { within: false, .. } => "chunks across".to_owned(),
        };
        let local = if local { " + neighbours" } else { "" };
        format!("{vectors}, {window}{local}")
    }
}

/// All compared selections: with windows of this length, and in wider buckets with windows two and four times as long.
pub(crate) fn selections(len: usize) -> Vec<Selection> {
    let hashed = |vectors, window, local| Selection::Hashed {
        vectors,
        window,
        local,
    };
    let bucket = WindowRule::Bucket(len);
    let chunk = |within| WindowRule::Chunk {
        length: len,
        within,
    };
    vec![
        Selection::Best,
        Selection::Recent,
        hashed(HashedVectors::Projected, bucket, false),
        hashed(HashedVectors::Projected, bucket, true),
        hashed(HashedVectors::Rotated, bucket, false),
        hashed(HashedVectors::Rotated, bucket, true),
        hashed(HashedVectors::Rotated, WindowRule::Bucket(2 * len), false),
        hashed(HashedVectors::Rotated, WindowRule::Bucket(4 * len), false),
        hashed(HashedVectors::Centred, bucket, true),
        hashed(HashedVectors::Rotated, chunk(true), false),
        hashed(HashedVectors::Rotated, chunk(false), false),
    ]
}

/// The buckets of a head in every round, sorted.
#[derive(Debug)]
pub(crate) struct Seen {
    window: WindowRule,
    local: bool,
    /// For each round: the bucket of each position, and its rank when sorted by bucket and position.
    rounds: Vec<(Vec<usize>, Vec<usize>)>,
}

impl Seen {
    /// Hashes a head in as many rounds as the largest of [`ROUNDS`]. `None` for a selection without hashing.
    pub(crate) fn new<B: ReformerBackend>(
        head: &HeadVectors,
        selection: Selection,
        key: Key,
        device: &B::Device,
    ) -> Option<Self> {
        let Selection::Hashed {
            vectors,
            window,
            local,
        } = selection
        else {
            return None;
        };
        let (seq_length, d) = (head.seq_length(), head.d);
        let n_buckets = n_buckets(seq_length, window.len());
        let rows = match vectors {
            HashedVectors::Projected => head.projected.clone(),
            HashedVectors::Rotated | HashedVectors::Centred => head.queries.clone(),
        };
        let data = TensorData::new(rows, [1, 1, seq_length, d]);
        let mut hashed = Tensor::<B, 4>::from_data(data, device);
        if vectors == HashedVectors::Centred {
            hashed = hashed.clone() - hashed.mean_dim(2);
        }
        let n_rounds = ROUNDS[ROUNDS.len() - 1];
        let directions = rotations(key, 1, d, n_rounds, &[n_buckets], device);
        let buckets = hash(hashed, directions, &[n_buckets]).into_data();
        let buckets: Vec<usize> = buckets
            .iter::<i64>()
            .map(|bucket| bucket as usize)
            .collect();
        let rounds = buckets.chunks(seq_length).map(|round| {
            let mut order: Vec<usize> = (0..seq_length).collect();
            order.sort_by_key(|&position| (round[position], position));
            let mut rank = vec![0; seq_length];
            for (place, &position) in order.iter().enumerate() {
                rank[position] = place;
            }
            (round.to_vec(), rank)
        });
        Some(Self {
            window,
            local,
            rounds: rounds.collect(),
        })
    }

    /// The earlier keys that a query sees after each number of [`ROUNDS`].
    pub(crate) fn keys(&self, query: usize) -> Vec<Vec<bool>> {
        let mut seen = vec![false; query];
        if self.local {
            seen[query.saturating_sub(self.window.len())..].fill(true);
        }
        let mut after = Vec::new();
        for (number, (buckets, rank)) in self.rounds.iter().enumerate() {
            self.look(query, buckets, rank, &mut seen);
            if ROUNDS.contains(&(number + 1)) {
                after.push(seen.clone());
            }
        }
        after
    }

    fn look(&self, query: usize, buckets: &[usize], rank: &[usize], seen: &mut [bool]) {
        match self.window {
            WindowRule::Bucket(len) => {
                let same = (0..query)
                    .rev()
                    .filter(|&key| buckets[key] == buckets[query]);
                same.take(len).for_each(|key| seen[key] = true);
            }
            WindowRule::Chunk { length, within } => {
                let own = rank[query] / length;
                for key in 0..query {
                    let chunk = rank[key] / length;
                    let near = chunk == own || chunk + 1 == own;
                    if near && (!within || buckets[key] == buckets[query]) {
                        seen[key] = true;
                    }
                }
            }
        }
    }
}
