//! Runs from their start to their end, in one program: what they share is compiled once.

mod allocations;
mod heads;
mod hostile;
mod kill;
mod measuring;
mod over;
mod report;
mod resume;
mod translation;
mod troubles;
