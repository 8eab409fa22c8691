//! From numbered sequences to the batches of a training or an evaluation.

mod batch;
mod cursor;
mod eval_loader;
mod prefetch;
mod train_loader;

pub use batch::{BatchSource, LmBatch};
pub use eval_loader::{EvalLoader, EvalLoaderConfig};
pub use train_loader::{TrainLoader, TrainLoaderConfig};
