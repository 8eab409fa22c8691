//! What moves numbers between the processes of a run.

use std::fmt::Debug;

use super::error::ParallelError;

type Result<T> = std::result::Result<T, ParallelError>;

/// Numbers of a tensor in the memory of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeviceBuffer {
    /// The GPU, as its driver numbers it.
    pub(super) device: usize,
    pub(super) address: u64,
    pub(super) n_values: usize,
    /// Whether they are `bf16` instead of `f32`.
    pub(super) is_half: bool,
}

/// Moves numbers between processes. All call the same functions in the same order with buffers of the
/// same lengths; each waits for the others, and an error means that one did not come in time.
pub(super) trait Engine: Debug + Send {
    /// Number of this process. The first one, 0, has the run.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn size(&self) -> usize;

    /// Number of this process among those on the same machine.
    fn local_rank(&self) -> usize;

    /// Everybody gets the bytes of one process.
    fn broadcast(&self, from: usize, bytes: &mut Vec<u8>) -> Result<()>;

    /// Everybody gets the numbers of one process.
    fn broadcast_values(&self, from: usize, values: &mut [f32]) -> Result<()>;

    /// What all have, in the order of processes.
    fn gather(&self, own: &[u64]) -> Result<Vec<u64>>;

    /// The first process gets the bytes of all, in the order of processes; the others get nothing.
    fn gather_bytes(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>>;

    /// Adds up what all have. Everybody gets the same bits, and again with as many processes.
    fn sum(&self, own: &[f32], sum: &mut [f32]) -> Result<()>;

    /// As [`sum`](Self::sum), with numbers that travel as `bf16` and are added as `f32` in the order
    /// of processes.
    fn sum_as_half(&mut self, own: &[f32], sum: &mut [f32]) -> Result<()>;

    /// Whether [`sum_on_device`](Self::sum_on_device) can be called for a GPU, if all ask for one. A
    /// process without asks for none.
    fn reaches_device(&mut self, device: Option<usize>) -> Result<bool>;

    /// As [`sum`](Self::sum), in the memory of GPUs. The buffers are written and nobody reads them
    /// meanwhile.
    fn sum_on_device(&self, buffers: &[DeviceBuffer]) -> Result<()>;

    /// Waits for all, however long that takes, and takes leave: nothing can be called after.
    fn leave(&mut self);

    /// Ends all processes at once.
    fn abort(&self, code: i32) -> !;
}
