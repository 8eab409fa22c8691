//! Code that the programs of this crate share.
//!
//! A program (in `programs`) parses its arguments, makes a `Job` (`cli::device`) of them and passes it to
//! `cli::device::run`, the one place where a backend is chosen. `cli::program` turns an error into one
//! line and an exit code.

// The crate is not published: its documentation is what readers of the code need.
#![allow(missing_docs)]
// Unit tests leave the programs out, and so the callers of much of the rest.
#![cfg_attr(test, allow(dead_code, unused_imports))]

// First, since its macros replace those of the standard library in all modules below.
#[macro_use]
mod out;

mod cli;
mod inference;
mod measure;
mod plot;
// Unit tests cover parts; leaving whole programs out halves the time to build them.
#[cfg(not(test))]
pub mod programs;
mod study;
mod training;
