//! Data parallel training: every device has the whole model and some rows of each batch.
//!
//! # Devices of one process
//!
//! [`Run::train_on`](crate::Run::train_on) takes several. Each step, the weights go from the first
//! device to the others, each computes the gradients of its rows, and their mean, weighted by targets,
//! goes to the optimizer on the first. One thread feeds the devices one after the other: in Burn 0.21 the clean-up
//! after a backward pass looks at the graphs of all threads, and one that is being built can lose the
//! nodes that nothing references at that moment (burn-autodiff, `runtime/graph.rs`,
//! `cleanup_orphaned_entries`). Devices still work at the same time as far as nothing waits for them;
//! a process for each device has no such limit.
//!
//! # Processes, on one machine or on several
//!
//! `mpirun` or `srun` starts them, and MPI carries their messages (feature `mpi`); on NVIDIA
//! GPUs, NCCL sums the gradients (feature `nccl`). Each [joins](join) the [`Group`]. The first owns
//! the run: its folder and its checkpoints. It sends configuration and state to the others, each of
//! which is a [`Member`](crate::Member). From there on all execute the same steps: each reads its
//! own rows of the batch, gradients are summed, and all keep the same weights, whose hash is compared
//! at every checkpoint. Evaluations are split by rows. A request to stop in one process stops all after
//! the same step. An error in one process ends all: it is reported, then [`abort`] ends the group.
//!
//! In addition to the activations of its rows, a process holds weights, gradients and the state of the
//! optimizer; [`Sharing`] divides the last.
//!
//! `docs/distributed.md` describes how to start it, and what it costs.
//!
//! # Why not Burn's own
//!
//! The part of `burn-collective` 0.21 for several processes waits for ever in its second operation
//! (`global/node/sync.rs`, line 71: the list that is cleared after the first is a copy). It tries without
//! end to reach a coordinator that is not there (`global/node/worker.rs`, line 122). It adds in the order
//! of arrival, so that sums differ between runs (`global/node/centralized.rs`, line 51). And it is gone
//! from later versions. NCCL behind burn-cuda's feature `distributed` is for one process. It works inside one
//! backward pass, where the reversible tape has one for each block, and it makes `Autodiff` require of every
//! backend in the program what flex and ndarray do not implement (burn-autodiff, `backend.rs`).

mod engine;
mod gradients;
mod group;
#[cfg(feature = "mpi")]
mod half;
mod launcher;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
mod nccl;
mod on_device;
mod replicas;
mod sharded;
#[cfg(feature = "mpi")]
mod watch;

use serde::{Deserialize, Serialize};

pub use crate::error::ParallelError;
pub use group::{Group, abort, is_joined, join, leave};
pub use launcher::{await_turn, check_alone};

pub(crate) use replicas::Replicas;
pub(crate) use sharded::Sharded;

/// What processes share in addition to the work. The settings of the first process apply to all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sharing {
    /// Each keeps the state of the optimizer for some parameters only, steps them and sends them to
    /// the others: the same weights, less memory, more communication. Checkpoints have the whole state.
    pub optimizer: bool,
    /// Gradients are sent as `bf16`: half the communication, slightly different weights.
    pub half_gradients: bool,
}
