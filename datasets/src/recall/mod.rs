//! Synthetic tasks of retrieval: every target occurs earlier in the
//! sequence, at a varying distance, and only its context shows where.

mod needles;
mod pairs;
mod passages;

pub use needles::{Needles, NeedlesConfig};
pub use pairs::{AssociativeRecall, AssociativeRecallConfig};
pub use passages::{ReturningPassages, ReturningPassagesConfig};

use crate::error::DatasetError;

/// Returns an error for a setting that is not allowed.
fn check(
    allowed: bool,
    setting: &'static str,
    value: usize,
    limit: &'static str,
    way_out: &'static str,
) -> Result<(), DatasetError> {
    match allowed {
        true => Ok(()),
        false => Err(DatasetError::Setting {
            setting,
            value,
            limit,
            way_out,
        }),
    }
}
