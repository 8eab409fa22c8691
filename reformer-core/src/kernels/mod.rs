//! The operations that determine the speed and memory of a Reformer, each with a reference version.
//!
//! Model code requires a [`ReformerBackend`]. Every method has a default body of Burn's tensor
//! operations (module [`reference`](mod@reference)), so another backend needs one line, in its own
//! crate or in this one (feature `tch`):
//!
//! ```
//! # use burn::tensor::backend::Backend;
//! use reformer_core::kernels::ReformerBackend;
//! # fn uses<B: ReformerBackend>() {}
//! // impl ReformerBackend for MyBackend {}
//! uses::<burn_flex::Flex>();
//! ```
//!
//! [`Autodiff`](burn_autodiff::Autodiff) does not use these defaults: its implementation (module
//! `autodiff`) calls the forward of the inner backend, keeps the output and its log-sum-exp, with what
//! both passes compute from the inputs, and registers the explicit backward as one step. No tensor of
//! the size of the attention matrix, the rounds or the window outlives a call, on any backend.

mod attention;
mod autodiff;
mod backend;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod cpu;
#[cfg(feature = "cube")]
mod cube;
mod decode;
#[cfg(feature = "fusion")]
mod fusion;
mod layers;
mod operations;
#[cfg(feature = "tch")]
mod plain;
pub mod reference;
mod threads;
mod train_backend;

pub(crate) use attention::KEY_EPSILON;
pub use attention::{
    AttentionGradients, AttentionOutput, Duplicates, KeyRule, Keys, LayerNormGradients, Masking,
    Prepared, Qkv, Rotation, SlotLayout, Slots, TileShape, TiledAttention,
};
pub use backend::{ReformerBackend, Seed};
pub(crate) use decode::KEYS_AT_ONCE;
pub use decode::VisibleKeys;
pub use layers::{Activation, LinearGradients, LinearParents, Residual, TokenLoss};
pub(crate) use threads::items_of_task;
pub use train_backend::TrainBackend;

/// An address in the memory of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceAddress {
    /// The GPU, as its driver numbers it.
    pub device: usize,
    /// The device pointer of its driver (`CUdeviceptr`).
    pub address: u64,
}
