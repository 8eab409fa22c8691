//! Measurements: memory, medians, counted operations, and Burn's own Transformer to compare with.

mod available;
pub(crate) mod burn_transformer;
pub(crate) mod flops;
pub(crate) mod median;
pub(crate) mod memory;
pub(crate) mod step;
pub(crate) mod subprocess;
