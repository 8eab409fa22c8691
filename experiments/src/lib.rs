//! Code that the programs of this crate share.
//!
//! A program (in `programs`) parses its arguments, makes a [`Job`](cli::device::Job) of them and passes it to
//! [`run`](cli::device::run), the one place where a backend is chosen. [`cli::main`] turns an error into one
//! line and an exit code.

#![deny(missing_docs)]

// First, since its macros replace those of the standard library in all modules below.
#[macro_use]
pub mod out;

pub mod cli;
pub mod inference;
pub mod measure;
pub mod plot;
// Unit tests cover parts; leaving whole programs out halves the time to build them.
#[cfg(not(test))]
pub mod programs;
pub mod study;
pub mod training;
