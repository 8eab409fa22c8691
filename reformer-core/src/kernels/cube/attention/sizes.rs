//! The runtime parameters of the kernels.

use core::ops::Range;

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use crate::kernels::reference::slice_length;
use crate::random::{Dropout, Key};

/// Runtime parameters of kernels.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) n_heads: u32,
    pub(super) seq_length: u32,
    pub(super) n_keys: u32,
    pub(super) n_slots: u32,
    pub(super) n_rounds: u32,
    /// The first round of a launch, and the number of its rounds.
    pub(super) first_round: u32,
    pub(super) at_once: u32,
    /// A query sees a key if `sort_key - sort key of key + after <= width`, unsigned.
    pub(super) after: u32,
    pub(super) width: u32,
    pub(super) key_low: u32,
    pub(super) key_high: u32,
    pub(super) threshold: u32,
    pub(super) kept: f32,
    /// Number of queries in a slice, which determines the dropout indices of full attention.
    pub(super) slice_length: u32,
    /// First head of a launch in the batch, number of its heads, and cubes per round of a head.
    /// Cubes of a head are consecutive, so that the rows they gather are still in the cache.
    pub(super) first_head: u32,
    pub(super) n: u32,
    pub(super) n_cubes: u32,
}

/// The same on the host.
#[derive(Debug, Clone, Copy)]
pub(super) struct LaunchSizes {
    pub(super) n_heads: usize,
    pub(super) seq_length: usize,
    pub(super) n_keys: usize,
    pub(super) n_slots: usize,
    pub(super) n_rounds: usize,
    /// See [`Sizes::after`].
    pub(super) after: usize,
    pub(super) width: usize,
    pub(super) dropout: Option<(f64, Key)>,
}

impl LaunchSizes {
    /// One round in natural order; the caller fills in the sizes of the tensors.
    pub(super) fn of_one_round(dropout: Option<(f64, Key)>) -> Self {
        Self {
            n_heads: 0,
            seq_length: 0,
            n_keys: 0,
            n_slots: 1,
            n_rounds: 1,
            after: 0,
            width: 0,
            dropout,
        }
    }

    pub(super) fn launch<R: Runtime>(
        &self,
        heads: &Range<usize>,
        rounds: &Range<usize>,
        n_cubes: usize,
    ) -> SizesLaunch<R> {
        let (rate, key) = self.dropout.unwrap_or((0.0, Key::new(0)));
        let Dropout {
            key,
            threshold,
            kept,
        } = Dropout::new(key, rate);
        let [key_low, key_high] = key.words();
        SizesLaunch::new(
            self.n_heads as u32,
            self.seq_length as u32,
            self.n_keys as u32,
            self.n_slots as u32,
            self.n_rounds as u32,
            rounds.start as u32,
            rounds.len() as u32,
            self.after as u32,
            self.width as u32,
            key_low,
            key_high,
            threshold,
            kept,
            slice_length(self.seq_length, self.n_keys) as u32,
            heads.start as u32,
            heads.len() as u32,
            n_cubes as u32,
        )
    }
}
