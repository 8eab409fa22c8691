//! Code that the programs of this crate share.
//!
//! A program (in `programs`) parses its arguments, makes a [`Job`](device::Job) of them and passes it to
//! [`device::run`], the one place where a backend is chosen. [`cli::main`] turns an error into one
//! line and an exit code.

#![deny(missing_docs)]

// First, since its macros replace those of the standard library in all modules below.
#[macro_use]
pub mod out;

pub mod allocator;
#[cfg(not(test))]
mod announcement;
pub mod arguments;
pub mod baseline;
pub mod called;
pub mod cli;
pub mod codec;
pub mod device;
pub mod figure;
pub mod flops;
pub mod generation;
pub mod hugging_face;
pub mod input;
pub mod inspection;
pub mod interrupt;
pub mod labelled;
pub mod long_range;
pub mod masked;
pub mod median;
pub mod memory;
pub mod overrides;
pub mod plot;
pub mod prediction;
pub mod preset;
pub mod processes;
// Unit tests cover parts; leaving whole programs out halves the time to build them.
#[cfg(not(test))]
pub mod programs;
pub mod progress;
pub mod scores;
pub mod shipped;
pub mod streams;
pub mod study;
pub mod text;
pub mod threads;
pub mod tokenizing;
#[cfg(not(test))]
pub mod training;
pub mod translation;
mod wish;
