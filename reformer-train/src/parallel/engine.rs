//! Communication between the processes of a run.

use std::fmt::Debug;

use crate::error::ParallelError;

type Result<T> = std::result::Result<T, ParallelError>;

/// Values of a tensor in the memory of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeviceBuffer {
    /// The GPU, as its driver numbers it.
    pub(super) device: usize,
    pub(super) address: u64,
    pub(super) n_values: usize,
    /// Whether they are `bf16` instead of `f32`.
    pub(super) is_half: bool,
}

/// Collective operations of processes. All call the same functions in the same order with buffers of the
/// same lengths; each waits for the others, and an error means that one did not arrive in time.
pub(super) trait Engine: Debug + Send {
    /// Rank of this process. The process of rank 0 owns the run.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn size(&self) -> usize;

    /// Rank of this process among those on the same machine.
    fn local_rank(&self) -> usize;

    /// Sends the bytes of one process to all.
    fn broadcast(&self, from: usize, bytes: &mut Vec<u8>) -> Result<()>;

    /// Sends the values of one process to all.
    fn broadcast_values(&self, from: usize, values: &mut [f32]) -> Result<()>;

    /// The values of all processes, in the order of ranks.
    fn gather(&self, own: &[u64]) -> Result<Vec<u64>>;

    /// The first process receives the bytes of all, in the order of ranks; the others receive nothing.
    fn gather_bytes(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>>;

    /// Sums over all processes. All receive the same bits, which repeat for the same number of processes.
    fn sum(&self, own: &[f32], sum: &mut [f32]) -> Result<()>;

    /// As [`sum`](Self::sum), with values that are sent as `bf16` and added as `f32` in the order
    /// of ranks.
    fn sum_as_half(&mut self, own: &[f32], sum: &mut [f32]) -> Result<()>;

    /// Whether [`sum_on_device`](Self::sum_on_device) is available for a GPU, if all processes pass one. A
    /// process without a GPU passes `None`.
    fn reaches_device(&mut self, device: Option<usize>) -> Result<bool>;

    /// As [`sum`](Self::sum), in the memory of GPUs. The buffers are overwritten and must not be read
    /// meanwhile.
    fn sum_on_device(&self, buffers: &[DeviceBuffer]) -> Result<()>;

    /// Waits for all processes without a time limit, and shuts down: nothing can be called after.
    fn leave(&mut self);

    /// Ends all processes at once.
    fn abort(&self, code: i32) -> !;
}
