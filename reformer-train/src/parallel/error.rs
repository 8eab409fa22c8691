//! What can go wrong between the processes of a run.

use thiserror::Error;

/// Why processes cannot train together, or not any more.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParallelError {
    /// A launcher started several processes of a program that cannot talk to each other.
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

    /// A launcher started several processes of something that one process does.
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

    /// A launcher of one MPI and a program of another one: every process believes that it is alone.
    #[error(
        "{launcher} started {n_processes} processes, and MPI sees {n_seen}: start them with the launcher \
         of the MPI that this program was built with, {library} (srun: --mpi=pmix or --mpi=pmi2)"
    )]
    OtherLauncher {
        /// The launcher.
        launcher: &'static str,
        /// Processes that it started.
        n_processes: usize,
        /// Processes that this one can talk to, with itself.
        n_seen: usize,
        /// Name and version of the MPI of this program.
        library: String,
    },

    /// An MPI that does not let another thread than the first one call it.
    #[error(
        "{library} does not allow calls from several threads (MPI_THREAD_SERIALIZED): use one that was \
         built with threads"
    )]
    NoThreads {
        /// Name and version of the MPI.
        library: String,
    },

    /// A process that did not come to where all meet.
    #[error(
        "process {rank} waited {seconds} s for {n_others} others, and one did not come: it hangs, or needs \
         longer (--wait); the run goes on from its last checkpoint"
    )]
    Missing {
        /// The process that waited.
        rank: usize,
        /// How long it waited.
        seconds: u64,
        /// Processes that were waited for.
        n_others: usize,
    },

    /// Weights that are not the same in all processes.
    #[error(
        "after step {step} the weights of process {rank} are not those of process 0: use the same program \
         on equal machines; the run goes on from its last checkpoint"
    )]
    Apart {
        /// Steps that are done.
        step: usize,
        /// The first process that differs.
        rank: usize,
    },

    /// Something that a process of this version would not send.
    #[error("process {rank} does not do as this version does: {reason}")]
    Protocol {
        /// The process.
        rank: usize,
        /// What is wrong.
        reason: String,
    },

    /// A library on a GPU that failed.
    #[error("NCCL failed in process {rank}: {reason}; NCCL_DEBUG=INFO tells more")]
    Nccl {
        /// The process.
        rank: usize,
        /// What it answered.
        reason: String,
    },
}
