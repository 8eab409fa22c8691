//! Synthetic tasks that only finding can solve: what has to be predicted stands somewhere earlier in the
//! sequence, at no fixed distance, and only its content tells where.

mod needles;
mod pairs;
mod passages;

pub use needles::{Needles, NeedlesConfig};
pub use pairs::{AssociativeRecall, AssociativeRecallConfig};
pub use passages::{ReturningPassages, ReturningPassagesConfig};

use crate::error::DatasetError;

/// Refuses a setting that is not allowed.
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
