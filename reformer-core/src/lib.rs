//! The Reformer (Kitaev, Kaiser, Levskaya: "Reformer: The Efficient Transformer", ICLR 2020) for
//! [Burn](https://burn.dev): attention by locality-sensitive hashing, reversible layers and chunked
//! feed-forward, for sequences of tens of thousands to a million tokens.
//!
//! # Brief overview
//!
//! - [`attention`] has the three kinds of self-attention as layers for any Burn model:
//!   [`LshAttention`](attention::LshAttention), [`LocalAttention`](attention::LocalAttention),
//!   [`FullAttention`](attention::FullAttention).
//! - [`kernels`] has the operations that they need from the backend: trait
//!   [`ReformerBackend`](kernels::ReformerBackend), with a default body for each.
//! - [`reversible`] turns any two functions into a reversible block; its
//!   [`Tape`](reversible::Tape) trains a stack of them in the memory of one block.
//! - [`model`] has whole models: [`Reformer`](model::Reformer), the stack;
//!   [`ReformerLm`](model::ReformerLm), the language model;
//!   [`ReformerEncoder`](model::ReformerEncoder), the bidirectional encoder, and its task heads;
//!   [`ReformerSeq2Seq`](model::ReformerSeq2Seq), the encoder-decoder.
//! - [`position`] and [`feed_forward`] are the other parts of a model.
//! - [`huggingface`] reads and writes Hugging Face's Reformer checkpoints.
//! - [`prelude`] has what most programs import.
//! - [`Precision`] is the floating-point type inside blocks.
//! - A [`Pass`] has everything besides input and weights that a layer's output depends on;
//!   a [`Key`] identifies its random numbers.
//!
//! Burn 0.21 and the enabled backends are re-exported as [`burn`], [`burn_autodiff`] and so on:
//! `cargo add burn` would take a later release with different types.
//!
//! # A step of training
//!
//! ```
//! use reformer_core::burn::optim::{AdamConfig, Optimizer};
//! use reformer_core::burn::tensor::{Int, Tensor};
//! use reformer_core::burn_autodiff::Autodiff;
//! use reformer_core::burn_flex::Flex;
//! use reformer_core::model::{ReformerConfig, ReformerLmConfig, Trainable};
//! use reformer_core::{Key, Pass};
//!
//! type B = Autodiff<Flex>;
//! let device = Default::default();
//! let stack = ReformerConfig::new(256, 32, 2); // vocabulary, d_model, layers
//! let mut model = ReformerLmConfig::new(stack).init::<B>(&device);
//! let mut optimizer = AdamConfig::new().init();
//!
//! let text: Vec<i32> = b"To be, or not to be: that is the question. ".repeat(8).iter().map(|&b| b as i32).collect();
//! let bytes = Tensor::<B, 1, Int>::from_ints(text.as_slice(), &device).unsqueeze::<2>();
//! let length = text.len() - 1;
//! let mut losses = Vec::new();
//! for step in 0..5 {
//!     let tokens = bytes.clone().slice([0..1, 0..length]);
//!     let targets = bytes.clone().slice([0..1, 1..length + 1]);
//!     let pass = Pass::train(Key::new(42).fold(step));
//!     let (loss, gradients) = model.gradients((tokens, targets), pass);
//!     model = optimizer.step(1e-2, model, gradients);
//!     losses.push(loss.loss.into_scalar());
//! }
//! assert!(losses[4] < losses[0]);
//! ```

#![deny(missing_docs)]

pub mod attention;
mod chunks;
mod error;
pub mod feed_forward;
mod files;
pub mod generation;
pub mod huggingface;
pub mod kernels;
mod linear;
pub mod model;
mod norm;
mod pass;
pub mod position;
mod precision;
pub mod prelude;
mod random;
pub mod reversible;

pub use burn;
pub use burn_autodiff;
#[cfg(feature = "cuda")]
pub use burn_cuda;
#[cfg(feature = "flex")]
pub use burn_flex;
#[cfg(feature = "ndarray")]
pub use burn_ndarray;
#[cfg(feature = "tch")]
pub use burn_tch;
#[cfg(feature = "wgpu")]
pub use burn_wgpu;

pub use chunks::in_chunks;
pub use error::ConfigError;
pub use files::write_atomically;
pub use norm::{LayerNorm, LayerNormConfig};
pub use pass::{Pass, Source};
pub use precision::Precision;
pub use random::{Key, Stream, philox};

/// The example in the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
