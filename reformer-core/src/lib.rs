//! TODO
#![deny(missing_docs)]

pub mod attention;
mod chunks;
mod error;
pub mod feed_forward;
pub mod huggingface;
pub mod kernels;
pub mod model;
mod norm;
mod pass;
pub mod position;
mod random;
pub mod reversible;

pub use chunks::in_chunks;
pub use error::ConfigError;
pub use norm::{LayerNorm, LayerNormConfig};
pub use pass::Pass;
pub use random::{Key, Stream, philox};
