//! The laws that attention and reversible layers obey, on every CPU backend.
//!
//! One crate, so that Burn's generic code is compiled once for all of them.

mod causality;
mod common;
mod gradients;
mod oracle;
mod properties;
