//! The laws that attention and reversible layers obey, on every CPU backend.
//!
//! One crate, so that Burn's generic code is compiled once for all of them.

#![allow(clippy::unwrap_used)]

mod cases;
mod causality;
mod common;
mod decoding;
mod gradients;
mod heads;
mod hostile;
mod huggingface;
mod kernels;
mod memory;
mod oracle;
mod precision;
mod properties;
mod seq2seq;
mod steps;
#[path = "../suite/mod.rs"]
mod suite;
mod translating;
