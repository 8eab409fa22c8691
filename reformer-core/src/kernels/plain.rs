//! Burn's backends without kernels of ours: all operations are the reference's, in Burn's tensor
//! operations. Here because only this crate or theirs may implement the trait for them.
//!
//! Not for Candle: Burn has deprecated that backend, and its matrix products refuse the strides of the
//! reference's tiles.

use super::ReformerBackend;

impl<E: burn_tch::TchElement> ReformerBackend for burn_tch::LibTorch<E> {}
