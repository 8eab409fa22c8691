//! Sums in the memory of NVIDIA GPUs.
//!
//! NCCL and CUDA are loaded at run time. The stream on which CubeCL computes is not accessible, so a sum
//! waits until the GPU is idle, and the step continues when the sum is complete: once a step.

use std::ffi::c_void;
use std::fmt;
use std::ptr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use cudarc::driver::{CudaContext, CudaStream, DriverError, sys as driver};
use cudarc::nccl::result::{self, NcclError};
use cudarc::nccl::sys::{self, ncclComm_t, ncclDataType_t, ncclRedOp_t, ncclUniqueId};

use super::engine::DeviceBuffer;
use crate::error::ParallelError;

/// Pause between polls of a sum.
const PAUSE: Duration = Duration::from_micros(20);

/// The GPUs of all processes, one each.
pub(super) struct Nccl {
    rank: usize,
    size: usize,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    comm: ncclComm_t,
}

// SAFETY: NCCL's communicators may be used by any thread, one at a time.
unsafe impl Send for Nccl {}

impl fmt::Debug for Nccl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nccl on GPU {}", self.context.ordinal())
    }
}

/// Makes errors of the process of this rank.
struct Of(usize);

impl Of {
    fn nccl(&self, error: NcclError) -> ParallelError {
        self.because(format!("{:?}", error.0))
    }

    fn cuda(&self, error: DriverError) -> ParallelError {
        self.because(error.to_string())
    }

    fn because(&self, reason: String) -> ParallelError {
        let rank = self.0;
        ParallelError::Nccl { rank, reason }
    }
}

impl Nccl {
    /// Whether the library can be loaded. It is searched as `libnccl.so`, without a version.
    pub(super) fn is_present() -> bool {
        // SAFETY: loading it only runs its own initialisation.
        unsafe { sys::is_culib_present() }
    }

    /// The identifier of a communicator, created by one of the processes.
    pub(super) fn id(rank: usize) -> Result<Vec<u8>, ParallelError> {
        let id = result::get_uniqueid().map_err(|error| Of(rank).nccl(error))?;
        Ok(id.internal.iter().map(|c| c.cast_unsigned()).collect())
    }

    /// Connects to the other processes, which all call this.
    pub(super) fn start(
        id: &[u8],
        device: usize,
        rank: usize,
        size: usize,
    ) -> Result<Self, ParallelError> {
        let of = Of(rank);
        let cuda = |error| of.cuda(error);
        // The primary context, which is CubeCL's.
        let context = CudaContext::new(device).map_err(cuda)?;
        let stream = context.new_stream().map_err(cuda)?;
        let mut name = ncclUniqueId { internal: [0; 128] };
        if id.len() != name.internal.len() {
            return Err(of.because(format!("a name of {} bytes", id.len())));
        }
        for (to, from) in name.internal.iter_mut().zip(id) {
            *to = from.cast_signed();
        }
        let mut comm = ptr::null_mut();
        // SAFETY: `comm` is written before it is read, and the context is that of this thread.
        unsafe { result::comm_init_rank(&mut comm, size as i32, name, rank as i32) }
            .map_err(|error| of.nccl(error))?;
        Ok(Self {
            rank,
            size,
            context,
            stream,
            comm,
        })
    }

    /// Sums over all processes, in place.
    pub(super) fn sum(
        &self,
        buffers: &[DeviceBuffer],
        timeout: Duration,
    ) -> Result<(), ParallelError> {
        let of = Of(self.rank);
        self.context.bind_to_thread().map_err(|e| of.cuda(e))?;
        // All work queued on the GPU is done: the gradients are complete.
        self.context.synchronize().map_err(|e| of.cuda(e))?;
        result::group_start().map_err(|e| of.nccl(e))?;
        for buffer in buffers {
            let place = buffer.address as *mut c_void;
            let kind = match buffer.is_half {
                true => ncclDataType_t::ncclBfloat16,
                false => ncclDataType_t::ncclFloat32,
            };
            // SAFETY: the buffer holds this number of values of this type and has no other user; the
            // sum is waited for below.
            unsafe {
                result::all_reduce(
                    place.cast_const(),
                    place,
                    buffer.n_values,
                    kind,
                    ncclRedOp_t::ncclSum,
                    self.comm,
                    self.stream.cu_stream().cast(),
                )
            }
            .map_err(|e| of.nccl(e))?;
        }
        result::group_end().map_err(|e| of.nccl(e))?;
        self.wait(timeout)
    }

    /// Waits for the sum, with a time limit: a lost process gives no other sign.
    fn wait(&self, timeout: Duration) -> Result<(), ParallelError> {
        let begin = Instant::now();
        loop {
            // SAFETY: the stream lives as long as `self`.
            let state = unsafe { driver::cuStreamQuery(self.stream.cu_stream()) };
            if state != driver::CUresult::CUDA_ERROR_NOT_READY {
                return state.result().map_err(|error| Of(self.rank).cuda(error));
            }
            if begin.elapsed() > timeout {
                return Err(ParallelError::Missing {
                    rank: self.rank,
                    seconds: begin.elapsed().as_secs(),
                    n_others: self.size - 1,
                });
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Nccl {
    fn drop(&mut self) {
        // SAFETY: no operation is pending. If it fails, the resources are freed when the process exits.
        unsafe { result::comm_destroy(self.comm) }.ok();
    }
}
