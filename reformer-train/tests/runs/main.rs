//! Runs from their start to their end, in one program: what they share is compiled once.

#![allow(clippy::unwrap_used)] // Also in functions that tests share.

mod allocations;
mod beginning;
mod failures;
mod finished;
mod heads;
mod hostile;
mod inference;
mod kill;
mod measuring;
mod own;
mod own_model;
mod refused;
mod report;
mod resume;
mod tokens;
mod translation;
