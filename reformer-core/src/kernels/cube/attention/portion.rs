//! Number of heads and rounds that attention processes at a time.

use core::ops::Range;

/// Heads of the batch, and rounds, whose separate results exist at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Portion {
    pub(super) heads: usize,
    pub(super) rounds: usize,
}

impl Portion {
    /// As many heads as fit the memory with all their rounds or, if not even one does, as many
    /// rounds of one head. `bytes` is the memory for a round of a head.
    pub(super) fn new(room: usize, bytes: usize, n_heads: usize, n_rounds: usize) -> Self {
        let most = room / bytes.max(1);
        let rounds = evenly(n_rounds, most);
        Self {
            heads: evenly(n_heads, most / rounds),
            rounds,
        }
    }

    /// The heads of each group.
    pub(super) fn heads_of(self, n_heads: usize) -> impl Iterator<Item = Range<usize>> {
        turns(n_heads, self.heads)
    }

    /// The rounds of each launch.
    pub(super) fn rounds_of(self, n_rounds: usize) -> impl Iterator<Item = Range<usize>> {
        turns(n_rounds, self.rounds)
    }
}

/// Size of equal groups of `n`, with as few groups as `most` per group allows; at least 1.
fn evenly(n: usize, most: usize) -> usize {
    let turns = n.div_ceil(most.max(1)).max(1);
    n.div_ceil(turns).max(1)
}

fn turns(n: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n)
        .step_by(size)
        .map(move |start| start..(start + size).min(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_take_turns_before_rounds_do() {
        let portion = |room| {
            let Portion { heads, rounds } = Portion::new(room, 10, 8, 5);
            (heads, rounds)
        };
        assert_eq!(portion(400), (8, 5));
        assert_eq!(portion(399), (4, 5));
        assert_eq!(portion(50), (1, 5));
        assert_eq!(portion(40), (1, 3));
        assert_eq!(portion(0), (1, 1));
    }

    #[test]
    fn turns_are_all_there_is() {
        let portion = Portion {
            heads: 3,
            rounds: 2,
        };
        let heads: Vec<_> = portion.heads_of(8).collect();
        assert_eq!(heads, [0..3, 3..6, 6..8]);
        assert!(portion.rounds_of(2).eq(std::iter::once(0..2)));
        assert!(portion.rounds_of(3).eq([0..2, 2..3]));
    }
}
