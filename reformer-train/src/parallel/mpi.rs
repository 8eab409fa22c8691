//! The engine on MPI, for any installed implementation.
//!
//! MPI is initialised by `Mpi::start`, and ended by [`leave`](Engine::leave) or
//! [`abort`](Engine::abort) only. `Universe` of the crate `mpi` would call `MPI_Finalize` when it is
//! dropped, also by an error or a panic, and that waits for the other processes for ever.

use std::mem;
use std::thread;
use std::time::{Duration, Instant};

use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::datatype::{Partition, PartitionMut};
use mpi::environment;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{
    BufferMut, Communicator, CommunicatorCollectives, Destination, Equivalence, Root, Source,
};

use super::engine::{DeviceBuffer, Engine};
use super::half;
use super::launcher::Launcher;
#[cfg(feature = "nccl")]
use super::nccl::Nccl;
use super::watch::Watch;
use crate::error::ParallelError;
#[cfg(feature = "nccl")]
use crate::screen::console::tell;

type Result<T> = std::result::Result<T, ParallelError>;

/// Maximum elements of a message: MPI counts with signed 32-bit integers.
const MOST: usize = 1 << 28;
/// Pauses between polls of a barrier: short enough not to slow a step down, long enough to leave the
/// processor to the processes that compute.
const SHORTEST_PAUSE: Duration = Duration::from_micros(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(2);
/// Maximum time between two polls that counts as waiting.
const LONGEST_LOOK: Duration = Duration::from_millis(500);

/// All processes of the launcher.
#[derive(Debug)]
pub(super) struct Mpi {
    rank: usize,
    size: usize,
    local_rank: usize,
    /// How long a process waits for the others.
    timeout: Duration,
    watch: Watch,
    halves: Halves,
    #[cfg(feature = "nccl")]
    nccl: Option<Nccl>,
}

/// The communicator of all processes, which cannot be stored and moved to another thread.
fn world() -> SimpleCommunicator {
    SimpleCommunicator::world()
}

/// A count or a rank, in MPI's integer type.
fn count(number: usize) -> i32 {
    i32::try_from(number).expect("messages are cut below this")
}

/// The error of a process that waited too long for the others.
fn missing(rank: usize, size: usize, waited: Duration) -> ParallelError {
    ParallelError::Missing {
        rank,
        seconds: waited.as_secs(),
        n_others: size - 1,
    }
}

impl Mpi {
    /// Starts MPI, if a launcher started this process.
    pub(super) fn start(timeout: Duration) -> Result<Option<Self>> {
        let Some(launcher) = Launcher::of_this_process() else {
            return Ok(None);
        };
        let (universe, threading) = environment::initialize_with_threading(Threading::Serialized)
            .expect("MPI is started once in a process");
        mem::forget(universe);
        let library = || {
            let version = environment::library_version().unwrap_or_default();
            let end = version.find([',', '\n', '\0']).unwrap_or(version.len());
            version[..end].trim().to_owned()
        };
        let world = world();
        let size = world.size() as usize;
        if size != launcher.n_processes {
            return Err(ParallelError::OtherLauncher {
                launcher: launcher.name,
                n_processes: launcher.n_processes,
                n_seen: size,
                library: library(),
            });
        }
        if threading < Threading::Serialized {
            return Err(ParallelError::NoThreads { library: library() });
        }
        let machine = world.split_shared(world.rank());
        let rank = world.rank() as usize;
        Ok(Some(Self {
            rank,
            size,
            watch: Watch::start(timeout, missing(rank, size, timeout)),
            local_rank: machine.rank() as usize,
            timeout,
            halves: Halves::default(),
            #[cfg(feature = "nccl")]
            nccl: None,
        }))
    }

    /// Waits until all processes have arrived, sleeping between polls, so that the operation that follows
    /// does not wait.
    ///
    /// # Errors
    /// [`ParallelError::Missing`], if the time limit is exceeded.
    fn meet(&self, limit: Option<Duration>) -> Result<()> {
        let mut request = world().immediate_barrier();
        let mut pause = SHORTEST_PAUSE;
        let (mut last, mut waited) = (Instant::now(), Duration::ZERO);
        loop {
            request = match request.test() {
                Ok(_) => return Ok(()),
                Err(request) => request,
            };
            // Time in which this process itself was stopped is not counted as waiting.
            waited += last.elapsed().min(LONGEST_LOOK);
            last = Instant::now();
            if limit.is_some_and(|limit| waited > limit) {
                // Dropping it would panic. All processes are about to end.
                mem::forget(request);
                return Err(missing(self.rank, self.size, waited));
            }
            thread::sleep(pause);
            pause = LONGEST_PAUSE.min(2 * pause);
        }
    }

    fn meet_in_time(&self) -> Result<()> {
        self.meet(Some(self.timeout))
    }

    /// Sends the values of one process to all, in messages that MPI can count.
    fn broadcast_all<T>(&self, from: usize, values: &mut [T])
    where
        T: Equivalence,
        [T]: BufferMut,
    {
        let (world, from) = (world(), count(from));
        for part in values.chunks_mut(MOST) {
            world.process_at_rank(from).broadcast_into(part);
        }
    }
}

/// Receives the bytes of all processes in the first one, which adds its own.
fn receive_all(own: Vec<u8>, lengths: &[u64]) -> Vec<Vec<u8>> {
    let mut all = vec![own];
    for (rank, &length) in lengths.iter().enumerate().skip(1) {
        let mut bytes = vec![0u8; length as usize];
        for part in bytes.chunks_mut(MOST) {
            world().process_at_rank(count(rank)).receive_into(part);
        }
        all.push(bytes);
    }
    all
}

/// Buffers of a `bf16` sum. They are kept, because the first access to new memory is slow.
#[derive(Debug, Default)]
struct Halves {
    /// The values of this process, and in the end the sums.
    values: Vec<u16>,
    /// The values of its share, of all processes.
    parts: Vec<u16>,
    /// The sums of its share.
    totals: Vec<u16>,
}

impl Halves {
    /// As [`Engine::sum_as_half`], for values that fit one message.
    fn sum(&mut self, own: &[f32], sum: &mut [f32], rank: usize, size: usize) {
        let world = world();
        let all = Shares::of(own.len(), size);
        let mine = all.counts[rank] as usize;
        let equal = Shares {
            counts: vec![count(mine); size],
            starts: (0..size).map(|rank| count(rank * mine)).collect(),
        };
        let Self {
            values,
            parts,
            totals,
        } = self;
        values.clear();
        values.extend(own.iter().map(|&value| half::to_bits(value)));
        // Each process sums its share of the values, which it receives from all.
        parts.resize(mine * size, 0);
        world.all_to_all_varcount_into(
            &Partition::new(&values[..], all.counts.clone(), all.starts.clone()),
            &mut PartitionMut::new(&mut parts[..], equal.counts, equal.starts),
        );
        let share = &mut sum[..mine];
        share.fill(0.0);
        for part in parts.chunks_exact(mine.max(1)) {
            for (total, half) in share.iter_mut().zip(part) {
                *total += half::from_bits(*half);
            }
        }
        totals.clear();
        totals.extend(share.iter().map(|&total| half::to_bits(total)));
        world.all_gather_varcount_into(
            &totals[..],
            &mut PartitionMut::new(&mut values[..], all.counts, all.starts),
        );
        for (sum, half) in sum.iter_mut().zip(values) {
            *sum = half::from_bits(*half);
        }
    }
}

/// Parts of a message, one for each process.
struct Shares {
    counts: Vec<i32>,
    starts: Vec<i32>,
}

impl Shares {
    /// The shares of `n` values.
    fn of(n: usize, size: usize) -> Self {
        let starts: Vec<usize> = (0..=size).map(|rank| n * rank / size).collect();
        Self {
            counts: starts.windows(2).map(|w| count(w[1] - w[0])).collect(),
            starts: starts[..size].iter().map(|&n| count(n)).collect(),
        }
    }
}

impl Engine for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn local_rank(&self) -> usize {
        self.local_rank
    }

    fn broadcast(&self, from: usize, bytes: &mut Vec<u8>) -> Result<()> {
        self.meet_in_time()?;
        self.watch.during(|| {
            let mut length = [bytes.len() as u64];
            self.broadcast_all(from, &mut length[..]);
            bytes.resize(length[0] as usize, 0);
            self.broadcast_all(from, &mut bytes[..]);
        });
        Ok(())
    }

    fn broadcast_values(&self, from: usize, values: &mut [f32]) -> Result<()> {
        self.meet_in_time()?;
        self.watch.during(|| self.broadcast_all(from, values));
        Ok(())
    }

    fn gather(&self, own: &[u64]) -> Result<Vec<u64>> {
        self.meet_in_time()?;
        let mut all = vec![0; own.len() * self.size];
        self.watch
            .during(|| world().all_gather_into(own, &mut all[..]));
        Ok(all)
    }

    fn gather_bytes(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        let lengths = self.gather(&[own.len() as u64])?;
        Ok(self.watch.during(|| match self.rank {
            0 => receive_all(own, &lengths),
            _ => {
                for part in own.chunks(MOST) {
                    world().process_at_rank(0).send(part);
                }
                vec![]
            }
        }))
    }

    fn sum(&self, own: &[f32], sum: &mut [f32]) -> Result<()> {
        self.meet_in_time()?;
        let parts = own.chunks(MOST).zip(sum.chunks_mut(MOST));
        self.watch.during(|| {
            for (own, sum) in parts {
                world().all_reduce_into(own, sum, SystemOperation::sum());
            }
        });
        Ok(())
    }

    fn sum_as_half(&mut self, own: &[f32], sum: &mut [f32]) -> Result<()> {
        self.meet_in_time()?;
        let parts = own.chunks(MOST).zip(sum.chunks_mut(MOST));
        let Self {
            watch,
            halves,
            rank,
            size,
            ..
        } = self;
        watch.during(|| {
            for (own, sum) in parts {
                halves.sum(own, sum, *rank, *size);
            }
        });
        Ok(())
    }

    #[cfg(not(feature = "nccl"))]
    fn reaches_device(&mut self, _device: Option<usize>) -> Result<bool> {
        Ok(false)
    }

    #[cfg(not(feature = "nccl"))]
    fn sum_on_device(&self, _buffers: &[DeviceBuffer]) -> Result<()> {
        unreachable!("no device can be reached")
    }

    #[cfg(feature = "nccl")]
    fn reaches_device(&mut self, device: Option<usize>) -> Result<bool> {
        let is_present = Nccl::is_present();
        if device.is_some() && !is_present && self.rank == 0 {
            tell("warning: there is no libnccl.so, so gradients go through the memory of the host");
        }
        let device = device.filter(|_| is_present);
        // All or none: a process without a GPU cannot take part in a sum on GPUs.
        let present = self.gather(&[device.is_some().into()])?;
        let (Some(device), false) = (device, present.contains(&0)) else {
            return Ok(false);
        };
        let mut id = match self.rank {
            0 => Nccl::id(0)?,
            _ => vec![],
        };
        self.broadcast(0, &mut id)?;
        self.nccl = Some(Nccl::start(&id, device, self.rank, self.size)?);
        Ok(true)
    }

    #[cfg(feature = "nccl")]
    fn sum_on_device(&self, buffers: &[DeviceBuffer]) -> Result<()> {
        self.meet_in_time()?;
        let nccl = self.nccl.as_ref().expect("the device was reached");
        nccl.sum(buffers, self.timeout)
    }

    fn leave(&mut self) {
        #[cfg(feature = "nccl")]
        drop(self.nccl.take());
        self.meet(None).expect("there is no limit");
        // SAFETY: all processes have arrived, and no MPI function is called after.
        unsafe { mpi::ffi::MPI_Finalize() };
    }

    fn abort(&self, code: i32) -> ! {
        world().abort(code)
    }
}
