//! Whole models: the [`Reformer`] stack, and what is built on it.

mod block;
mod config;
mod encoder;
mod evaluation;
mod lm;
mod loss;
mod reformer;

pub use block::Block;
pub use config::ReformerConfig;
pub use encoder::ReformerEncoder;
pub use lm::{ReformerLm, ReformerLmConfig};
pub use loss::LmLoss;
pub use reformer::{Recorded, Reformer};
