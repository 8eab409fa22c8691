//! Errors of communication between the processes of a run.

use thiserror::Error;

/// Why processes cannot train together, or not any longer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParallelError {
    /// A launcher started several processes of a program that was built without communication.
    #[error(
        "{launcher} started {n_processes} processes, and this program was built without MPI: build it \
         with `--features mpi`, or start one process"
    )]
    NotBuilt {
        /// The launcher.
        launcher: &'static str,
        /// Processes that it started.
        n_processes: usize,
    },

    /// A launcher started several processes for work of a single process.
    #[error(
        "{launcher} started {n_processes} processes, and this program works in one: start it without \
         {launcher}"
    )]
    NotShared {
        /// The launcher.
        launcher: &'static str,
        /// Processes that it started.
        n_processes: usize,
    },

    /// A launcher of one MPI and a program built with another: every process believes that it is alone.
    #[error(
        "{launcher} started {n_processes} processes, and MPI sees {n_seen}: start them with the launcher \
         of the MPI that this program was built with, {library} (srun: --mpi=pmix or --mpi=pmi2)"
    )]
    OtherLauncher {
        /// The launcher.
        launcher: &'static str,
        /// Processes that it started.
        n_processes: usize,
        /// Processes that this one can communicate with, including itself.
        n_seen: usize,
        /// Name and version of the MPI of this program.
        library: String,
    },

    /// An MPI that does not allow calls from other threads than the first one.
    #[error(
        "{library} does not allow calls from several threads (MPI_THREAD_SERIALIZED): use one that was \
         built with threads"
    )]
    NoThreads {
        /// Name and version of the MPI.
        library: String,
    },

    /// A process that did not arrive at a synchronisation point.
    #[error(
        "process {rank} waited {seconds} s for {n_others} others: one hangs, or needs more time (--wait); \
         the run can be resumed from its last checkpoint"
    )]
    Missing {
        /// The process that waited.
        rank: usize,
        /// How long it waited.
        seconds: u64,
        /// Number of processes that it waited for.
        n_others: usize,
    },

    /// Weights that differ between processes.
    #[error(
        "after step {step} the weights of processes {rank} and 0 differ: use the same program on equal \
         machines; the run can be resumed from its last checkpoint"
    )]
    Apart {
        /// Steps that are done.
        step: usize,
        /// The first process that differs.
        rank: usize,
    },

    /// A message that a process of this version would not send.
    #[error("unexpected message from process {rank}, perhaps of another version: {reason}")]
    Protocol {
        /// The process.
        rank: usize,
        /// What is wrong.
        reason: String,
    },

    /// A failed call of a GPU library.
    #[error("NCCL failed in process {rank}: {reason}; set NCCL_DEBUG=INFO for details")]
    Nccl {
        /// The process.
        rank: usize,
        /// The error of the library.
        reason: String,
    },
}
