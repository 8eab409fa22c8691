//! Synthetic tasks of retrieval: every target occurs earlier in the
//! sequence, at a varying distance, and only its context shows where.

mod needles;
mod pairs;
mod passages;

pub use needles::{Needles, NeedlesConfig};
pub use pairs::{AssociativeRecall, AssociativeRecallConfig};
pub use passages::{ReturningPassages, ReturningPassagesConfig};
