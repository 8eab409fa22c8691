//! Data parallel training: every device has the whole model and some rows of each batch.
//!
//! # Devices of one process
//!
//! [`Run::train_on`](crate::Run::train_on) takes several. Each step, the weights go from the first
//! device to the others, each computes the gradients of its rows, and their mean, weighted by targets,
//! goes to the optimizer on the first. One thread feeds all devices in turn: in Burn 0.21 the clean-up
//! after a backward pass looks at the graphs of all threads, and one that is being built can lose the
//! nodes that nothing holds in that moment (burn-autodiff, `runtime/graph.rs`,
//! `cleanup_orphaned_entries`). Devices still work at the same time as far as nothing waits for them;
//! a process for each device has no such limit.
//!
//! # Processes, on one machine or on several
//!
//! The first, a [`Coordinator`], has the run: its folder, checkpoints, evaluations. It sends
//! configuration and state to every [`Member`] that joins. In a step each reads its own rows of the
//! batch, gradients are added up in the order of nodes, and all get the same bits and so keep the same
//! weights. Whoever leaves or falls silent ends the run on all nodes with an error; it goes on from its
//! last checkpoint.
//!
//! Of Burn 0.21's own means none could be used. Of `burn-collective`, the part for several processes
//! waits for ever in its second operation (`global/node/sync.rs`, line 71: the list that is cleared
//! after the first is a copy), tries without end to reach a coordinator that is not there
//! (`global/node/worker.rs`, line 122), adds in the order of arrival, so that sums differ between runs
//! (`global/node/centralized.rs`, line 51), and needs an HTTP server. NCCL is behind burn-cuda's feature
//! `distributed`, which works inside one backward pass, where the reversible tape has one for each block, and
//! which makes `Autodiff` ask of every backend in the program what flex and ndarray do not have
//! (burn-autodiff, `backend.rs`).

mod connection;
mod error;
mod gradients;
mod group;
mod member;
mod replicas;

pub use error::ParallelError;
pub use group::{Coordinator, Patience};
pub use member::{Helped, Member};

pub(crate) use member::state;
pub(crate) use replicas::Replicas;
