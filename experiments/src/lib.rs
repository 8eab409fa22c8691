//! What the programs of this crate share.
//!
//! A program parses its arguments, makes a [`Job`](device::Job) of them and hands it to
//! [`device::run`], the one place where a backend is chosen. [`cli::main`] turns an error into one
//! line and an exit code.

#![deny(missing_docs)]

pub mod allocator;
pub mod arguments;
pub mod baseline;
pub mod cli;
pub mod device;
pub mod flops;
pub mod generation;
pub mod interrupt;
pub mod memory;
pub mod overrides;
pub mod plot;
pub mod preset;
pub mod progress;
pub mod sampling;
pub mod text;
pub mod training;
