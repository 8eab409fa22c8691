//! Runs from their start to their end, in one program: what they share is compiled once.

mod heads;
mod report;
mod resume;
mod translation;
mod troubles;
