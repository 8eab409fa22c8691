//! From numbered sequences to the batches of a training or an evaluation.

mod batch;
mod cursor;
mod eval_loader;
pub(crate) mod passes;
mod prefetch;
mod rows;
mod sequences;
mod train_loader;

pub use batch::{BatchSource, LmBatch};
pub use eval_loader::{EvalLoader, EvalLoaderConfig};
pub(crate) use sequences::write_shifted;
pub use sequences::{IGNORED, START_TOKEN, Sequences, Shuffled};
pub use train_loader::{TrainLoader, TrainLoaderConfig};
