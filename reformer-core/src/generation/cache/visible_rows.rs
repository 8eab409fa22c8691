//! Which cached positions the newest one sees.

use core::ops::Range;

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

use super::Lengths;
use super::hashed::Hashed;
use crate::attention::{Attention, LocalConfig, ProjectedAttention, Reach};
use crate::kernels::{KEYS_AT_ONCE, ReformerBackend, VisibleKeys};

/// Which cached positions the newest one sees.
#[derive(Debug, Clone)]
pub(super) enum VisibleRows<B: Backend> {
    /// All of them.
    All,
    /// Those in the last chunks. Rows are reused cyclically.
    Chunks(LocalConfig),
    /// Those found by hashing.
    Hashed(Hashed<B>),
}

impl<B: ReformerBackend> VisibleRows<B> {
    /// For sequences without positions.
    pub(super) fn new(attention: &Attention<B>, context: usize, batch_size: usize) -> Self {
        match attention.reach(context) {
            Reach::All => Self::All,
            Reach::Chunks(local) => Self::Chunks(local.clone()),
            Reach::Hashed(lsh) => Self::Hashed(Hashed::new(lsh, context, batch_size)),
        }
    }

    /// Adds the first positions of sequences, `real` of each without padding, in the given buckets
    /// if they are known.
    ///
    /// # Shapes
    /// - queries: `[batch_size, n_heads, seq_length, d_head]`
    pub(super) fn read(
        &mut self,
        queries: Tensor<B, 4>,
        buckets: Option<Tensor<B, 4, Int>>,
        real: &[usize],
    ) {
        if let Self::Hashed(hashed) = self {
            hashed.read(queries, buckets, real);
        }
    }

    /// Number of rows that are needed for `max_length` positions.
    pub(super) fn most(&self, max_length: usize) -> usize {
        match self {
            Self::Chunks(local) => max_length.min(remembered(local)),
            Self::All | Self::Hashed(_) => max_length,
        }
    }

    /// The row of a position.
    pub(super) fn row(&self, position: usize) -> usize {
        match self {
            Self::Chunks(local) => position % remembered(local),
            Self::All | Self::Hashed(_) => position,
        }
    }

    /// Rows that the next position sees, per sequence or per head.
    ///
    /// # Shapes
    /// - queries: `[batch_size, n_heads, 1, d_head]`
    /// - positions, padding: `[batch_size]`
    pub(super) fn advance(
        &mut self,
        queries: Tensor<B, 4>,
        positions: &[usize],
        padding: &[Range<usize>],
    ) -> Vec<VisibleKeys> {
        let sequences = positions.iter().copied().zip(padding);
        match self {
            Self::All => sequences
                .map(|(position, padding)| sees_all(position, padding))
                .collect(),
            Self::Chunks(local) => sequences
                .map(|(position, _)| sees_chunks(local, position))
                .collect(),
            Self::Hashed(hashed) => {
                let [_, n_heads, ..] = queries.dims();
                let mut visible = hashed.advance(queries, positions);
                for (visible, (position, padding)) in
                    visible.chunks_exact_mut(n_heads).zip(sequences)
                {
                    if hashed.is_exact_at(position) {
                        visible.fill(sees_all(position, padding));
                    }
                }
                visible
            }
        }
    }

    /// Continues with these sequences.
    pub(super) fn select(&mut self, rows: &[usize]) {
        if let Self::Hashed(hashed) = self {
            hashed.select(rows);
        }
    }

    /// Joins those of one layer into that of a batch.
    pub(super) fn join(reaches: Vec<Self>) -> Option<Self> {
        let mut hashed = Vec::new();
        let mut of_all = None;
        for reach in reaches {
            match reach {
                Self::Hashed(part) => hashed.push(part),
                other => of_all = Some(other),
            }
        }
        Hashed::join(hashed).map(Self::Hashed).or(of_all)
    }

    /// Rows that a sequence of the maximum length needs, and memory of its buckets in bytes.
    pub(super) fn of_sequence(attention: &Attention<B>, lengths: Lengths) -> (usize, usize) {
        match attention.reach(lengths.context) {
            Reach::All => (lengths.max, 0),
            Reach::Chunks(local) => (lengths.max.min(remembered(local)), 0),
            Reach::Hashed(lsh) => (lengths.max, Hashed::bytes_of_sequence(lsh, lengths)),
        }
    }

    /// Memory in bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Hashed(hashed) => hashed.bytes(),
            Self::All | Self::Chunks(_) => 0,
        }
    }
}

/// Number of positions that a local layer caches.
fn remembered(local: &LocalConfig) -> usize {
    (local.before + 1) * local.chunk_length
}

/// All positions up to this one, without the padding.
fn sees_all(position: usize, padding: &Range<usize>) -> VisibleKeys {
    sees(position, position + 1, padding)
}

/// The first `end` rows without the padding, in the same parts as in full attention.
pub(super) fn sees(own: usize, end: usize, padding: &Range<usize>) -> VisibleKeys {
    let mut visible = VisibleKeys {
        own: own as u32,
        ..VisibleKeys::default()
    };
    for start in (0..end).step_by(KEYS_AT_ONCE) {
        let rows = start..end.min(start + KEYS_AT_ONCE);
        let n_before = visible.keys.len();
        let is_real = |row: &usize| !padding.contains(row);
        visible
            .keys
            .extend(rows.filter(is_real).map(|row| row as u32));
        if visible.keys.len() > n_before {
            visible.end_part();
        }
    }
    visible
}

/// The position's own chunk and the preceding ones.
fn sees_chunks(local: &LocalConfig, position: usize) -> VisibleKeys {
    let chunk = position / local.chunk_length;
    let first = chunk.saturating_sub(local.before) * local.chunk_length;
    let row = |position: usize| (position % remembered(local)) as u32;
    let mut visible = VisibleKeys {
        own: row(position),
        keys: (first..=position).map(row).collect(),
        ..VisibleKeys::default()
    };
    visible.end_part();
    visible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_layer_remembers_what_is_in_reach() {
        let local = LocalConfig::new().with_chunk_length(4).with_before(1);
        assert_eq!(remembered(&local), 8);
        let visible = sees_chunks(&local, 9);
        assert_eq!(
            (visible.own, visible.keys, visible.ends),
            (1, vec![4, 5, 6, 7, 0, 1], vec![6])
        );
        assert_eq!(sees_chunks(&local, 2).keys, [0, 1, 2]);
    }

    #[test]
    fn full_attention_is_taken_in_parts() {
        assert_eq!(sees_all(0, &(0..0)).ends, [1]);
        assert_eq!(sees_all(127, &(0..0)).ends, [128]);
        assert_eq!(sees_all(128, &(0..0)).ends, [128, 129]);
        assert_eq!(sees_all(300, &(0..0)).keys.len(), 301);
    }

    #[test]
    fn padding_is_left_out_and_parts_begin_where_they_would_with_it() {
        let visible = sees_all(260, &(3..130));
        assert_eq!(
            (visible.own, &visible.keys[..5]),
            (260, &[0, 1, 2, 130, 131][..])
        );
        assert_eq!(visible.ends, [3, 129, 134]);
        assert_eq!(sees(0, 600, &(100..600)).ends, [100]);
    }
}
