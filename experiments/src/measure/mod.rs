//! Measurements: memory, medians, counted operations, and Burn's own Transformer to compare with.

pub mod allocator;
pub mod burn_transformer;
pub mod flops;
pub mod median;
pub mod memory;
pub mod step;
