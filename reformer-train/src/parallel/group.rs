//! The group of processes that train a run.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::engine::{DeviceBuffer, Engine};
use crate::error::ParallelError;

/// The processes that train together. Clones are the same group.
///
/// All processes make the same calls in the same order: [`join`], those in
/// [`Run::train_on`](crate::Run::train_on) and [`Member`](crate::Member), [`leave`].
#[derive(Clone)]
pub struct Group {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Mutex<Box<dyn Engine>>,
    rank: usize,
    size: usize,
    local_rank: usize,
    /// An error in a function that cannot return it.
    failure: Mutex<Option<ParallelError>>,
}

/// The group of this process, while it is a member.
static GROUP: OnceLock<Mutex<Option<Group>>> = OnceLock::new();

fn joined() -> MutexGuard<'static, Option<Group>> {
    let group = GROUP.get_or_init(Mutex::default);
    group.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connects to the other processes, if a launcher (`mpirun`, `srun`) started several. `timeout` is the
/// time limit of all later waits for each other.
///
/// # Errors
/// A launcher of another MPI, or a program that was built without MPI.
pub fn join(timeout: Duration) -> Result<Option<Group>, ParallelError> {
    let mut joined = joined();
    if joined.is_none() {
        *joined = start(timeout)?.map(Group::new);
    }
    Ok(joined.clone())
}

#[cfg(feature = "mpi")]
fn start(timeout: Duration) -> Result<Option<Box<dyn Engine>>, ParallelError> {
    let mpi = super::mpi::Mpi::start(timeout)?;
    Ok(mpi.map(|mpi| Box::new(mpi) as Box<dyn Engine>))
}

#[cfg(not(feature = "mpi"))]
fn start(_timeout: Duration) -> Result<Option<Box<dyn Engine>>, ParallelError> {
    use super::launcher::Launcher;
    match Launcher::of_this_process() {
        Some(launcher) if launcher.n_processes > 1 => Err(ParallelError::NotBuilt {
            launcher: launcher.name,
            n_processes: launcher.n_processes,
        }),
        _ => Ok(None),
    }
}

/// Whether this process has joined a group and not left it.
pub fn is_joined() -> bool {
    // A lock that is held for long means that the process is joining or leaving.
    let group = GROUP.get().map(Mutex::try_lock);
    matches!(group, Some(Ok(group)) if group.is_some())
}

/// Waits until all processes are finished, without a time limit, and leaves the group. Does nothing in a
/// process that is alone.
pub fn leave() {
    if let Some(group) = joined().take() {
        group.engine().leave();
    }
}

/// Ends all processes of the group at once with an exit code, after an error of one of them has been
/// reported. Does nothing in a process that is alone.
pub fn abort(code: i32) {
    // A thread that ends everything must not wait.
    let group = GROUP.get().and_then(|group| group.try_lock().ok()?.clone());
    if let Some(group) = group {
        group.end(code);
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of {}", self.inner.rank, self.inner.size)
    }
}

impl Group {
    fn new(engine: Box<dyn Engine>) -> Self {
        let (rank, size) = (engine.rank(), engine.size());
        Self {
            inner: Arc::new(Inner {
                rank,
                size,
                local_rank: engine.local_rank(),
                engine: Mutex::new(engine),
                failure: Mutex::new(None),
            }),
        }
    }

    /// Rank of this process. The process of rank 0 owns the run.
    pub fn rank(&self) -> usize {
        self.inner.rank
    }

    /// Number of processes.
    pub fn size(&self) -> usize {
        self.inner.size
    }

    /// Rank of this process among those on its machine: that of its GPU.
    pub fn local_rank(&self) -> usize {
        self.inner.local_rank
    }

    /// Whether this process owns the run. The others are [members](crate::Member).
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Measures a sum of `n_values` values in host memory, which all processes call together: the time
    /// that a training step waits for gradients.
    ///
    /// # Errors
    /// A process that does not arrive.
    pub fn measure_sum(&self, n_values: usize, as_half: bool) -> Result<Duration, ParallelError> {
        let (own, mut sum) = (vec![1.0; n_values], vec![0.0; n_values]);
        // The first access to memory is slower.
        self.sum(&own, &mut sum, as_half)?;
        let begin = Instant::now();
        self.sum(&own, &mut sum, as_half)?;
        Ok(begin.elapsed())
    }

    fn engine(&self) -> MutexGuard<'_, Box<dyn Engine>> {
        let engine = self.inner.engine.lock();
        engine.unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, code: i32) -> ! {
        match self.inner.engine.try_lock() {
            Ok(engine) => engine.abort(code),
            // Another thread waits for the other processes, which notice that this process has ended.
            Err(_) => std::process::exit(code),
        }
    }

    /// Sends the bytes of one process to all.
    pub(crate) fn broadcast(&self, from: usize, bytes: &mut Vec<u8>) -> Result<(), ParallelError> {
        self.engine().broadcast(from, bytes)
    }

    /// Sends the values of one process to all.
    pub(super) fn broadcast_values(
        &self,
        from: usize,
        values: &mut [f32],
    ) -> Result<(), ParallelError> {
        self.engine().broadcast_values(from, values)
    }

    /// The values of all processes, one after the other, in the order of ranks.
    pub(super) fn gather(&self, own: &[f64]) -> Result<Vec<f64>, ParallelError> {
        let own: Vec<u64> = own.iter().copied().map(f64::to_bits).collect();
        let all = self.engine().gather(&own)?;
        Ok(all.into_iter().map(f64::from_bits).collect())
    }

    /// The first process receives the bytes of all, in the order of ranks; the others receive nothing.
    pub(super) fn gather_bytes(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, ParallelError> {
        self.engine().gather_bytes(own)
    }

    /// Sums over all processes, sent as `bf16` if allowed.
    pub(super) fn sum(
        &self,
        own: &[f32],
        sum: &mut [f32],
        as_half: bool,
    ) -> Result<(), ParallelError> {
        match as_half {
            true => self.engine().sum_as_half(own, sum),
            false => self.engine().sum(own, sum),
        }
    }

    /// Whether sums in the memory of GPUs are available, if all processes pass one.
    pub(super) fn reaches_device(&self, device: Option<usize>) -> Result<bool, ParallelError> {
        self.engine().reaches_device(device)
    }

    /// Sums over all processes, in the memory of GPUs.
    pub(super) fn sum_on_device(&self, buffers: &[DeviceBuffer]) -> Result<(), ParallelError> {
        self.engine().sum_on_device(buffers)
    }

    /// Checks that all processes have the same hash of their weights.
    pub(super) fn check_same(&self, hash: u64, step: usize) -> Result<(), ParallelError> {
        let all = self.engine().gather(&[hash])?;
        match all.iter().position(|other| *other != all[0]) {
            None => Ok(()),
            Some(rank) => Err(ParallelError::Apart { step, rank }),
        }
    }

    /// Keeps an error of a function that cannot return it.
    pub(super) fn fail(&self, error: ParallelError) {
        let failure = self.inner.failure.lock();
        let mut failure = failure.unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
    }

    /// The error of a function that could not return it.
    pub(super) fn failed(&self) -> Result<(), ParallelError> {
        let failure = self.inner.failure.lock();
        let failure = failure.unwrap_or_else(PoisonError::into_inner);
        failure.clone().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An engine whose other processes have the given values.
    #[derive(Debug)]
    struct Told(Vec<u64>);

    type Answer<T> = Result<T, ParallelError>;

    impl Engine for Told {
        fn rank(&self) -> usize {
            0
        }

        fn size(&self) -> usize {
            1 + self.0.len()
        }

        fn local_rank(&self) -> usize {
            0
        }

        fn broadcast(&self, _from: usize, _bytes: &mut Vec<u8>) -> Answer<()> {
            unreachable!()
        }

        fn broadcast_values(&self, _from: usize, _values: &mut [f32]) -> Answer<()> {
            unreachable!()
        }

        fn gather(&self, own: &[u64]) -> Answer<Vec<u64>> {
            Ok(own.iter().chain(&self.0).copied().collect())
        }

        fn gather_bytes(&self, _own: Vec<u8>) -> Answer<Vec<Vec<u8>>> {
            unreachable!()
        }

        fn sum(&self, _own: &[f32], _sum: &mut [f32]) -> Answer<()> {
            unreachable!()
        }

        fn sum_as_half(&mut self, _own: &[f32], _sum: &mut [f32]) -> Answer<()> {
            unreachable!()
        }

        fn reaches_device(&mut self, _device: Option<usize>) -> Answer<bool> {
            unreachable!()
        }

        fn sum_on_device(&self, _buffers: &[DeviceBuffer]) -> Answer<()> {
            unreachable!()
        }

        fn leave(&mut self) {
            unreachable!()
        }

        fn abort(&self, _code: i32) -> ! {
            unreachable!()
        }
    }

    #[test]
    fn process_with_other_weights_is_found() {
        let group = |others: &[u64]| Group::new(Box::new(Told(others.to_vec())));
        assert_eq!(group(&[7, 7, 7]).check_same(7, 12), Ok(()));
        let apart = ParallelError::Apart { step: 12, rank: 2 };
        assert_eq!(group(&[7, 8, 7]).check_same(7, 12), Err(apart));
    }

    #[test]
    fn first_failure_is_kept() {
        let group = Group::new(Box::new(Told(vec![])));
        assert_eq!(group.failed(), Ok(()));
        let missing = |rank| ParallelError::Missing {
            rank,
            seconds: 1,
            n_others: 3,
        };
        group.fail(missing(1));
        group.fail(missing(2));
        assert_eq!(group.failed(), Err(missing(1)));
        // Asking does not clear the failure.
        assert_eq!(group.failed(), Err(missing(1)));
    }
}
