//! The launcher of this process, and the number of processes that it started.

use std::env;
use std::thread;
use std::time::Duration;

use crate::error::ParallelError;

/// A launcher that started several processes of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Launcher {
    pub(super) name: &'static str,
    pub(super) n_processes: usize,
    /// Rank of this process.
    rank: usize,
}

/// Launchers by their environment variables for size and rank. Inside an allocation of Slurm, mpirun
/// starts its own daemons by srun, whose variables then reach the program too: they come last.
const KNOWN: [(&str, &str, &str); 3] = [
    ("mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("mpiexec", "PMI_SIZE", "PMI_RANK"),
    ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
];

impl Launcher {
    /// The launcher of this process. `None` if the process was started alone.
    pub(super) fn of_this_process() -> Option<Self> {
        Self::of(|name| env::var(name).ok()?.parse().ok())
    }

    fn of(variable: impl Fn(&str) -> Option<usize>) -> Option<Self> {
        let found = KNOWN.into_iter().find_map(|(name, size, rank)| {
            Some(Self {
                name,
                n_processes: variable(size)?,
                rank: variable(rank)?,
            })
        })?;
        // The script of a Slurm job itself runs in a step with one task.
        (found.name != "srun" || found.n_processes > 1).then_some(found)
    }
}

/// Refuses to repeat the work of a single process, if a launcher started several.
///
/// # Errors
/// [`ParallelError::NotShared`].
pub fn check_alone() -> Result<(), ParallelError> {
    match Launcher::of_this_process() {
        Some(launcher) if launcher.n_processes > 1 => Err(ParallelError::NotShared {
            launcher: launcher.name,
            n_processes: launcher.n_processes,
        }),
        _ => Ok(()),
    }
}

/// Waits for a time that grows with the rank of this process, before it reports an error and exits.
/// An error that occurs in all processes is then reported once: the first exit ends the others.
pub fn await_turn() {
    let rank = Launcher::of_this_process().map_or(0, |launcher| launcher.rank);
    thread::sleep(turn(rank));
}

/// A launcher takes about a second to end the others after a process exited.
fn turn(rank: usize) -> Duration {
    const FIRST: Duration = Duration::from_millis(1500);
    const STEP: Duration = Duration::from_millis(500);
    const MOST_STEPS: u32 = 10;
    match u32::try_from(rank).unwrap_or(MOST_STEPS) {
        0 => Duration::ZERO,
        rank => FIRST + STEP * rank.min(MOST_STEPS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, usize)]) -> Option<(&'static str, usize, usize)> {
        let value = |name: &str| variables.iter().find(|(other, _)| *other == name);
        let launcher = Launcher::of(|name| Some(value(name)?.1))?;
        Some((launcher.name, launcher.n_processes, launcher.rank))
    }

    #[test]
    fn launchers_are_distinguished() {
        assert_eq!(of(&[]), None);
        let open_mpi = [("OMPI_COMM_WORLD_SIZE", 4), ("OMPI_COMM_WORLD_RANK", 3)];
        assert_eq!(of(&open_mpi), Some(("mpirun", 4, 3)));
        let hydra = [("PMI_SIZE", 2), ("PMI_RANK", 0)];
        assert_eq!(of(&hydra), Some(("mpiexec", 2, 0)));
        let slurm = |n| [("SLURM_STEP_NUM_TASKS", n), ("SLURM_PROCID", 0)];
        assert_eq!(of(&slurm(8)), Some(("srun", 8, 0)));
        // The step of a job's script, and the one in which mpirun starts its daemons.
        assert_eq!(of(&slurm(1)), None);
        let both = [slurm(2).as_slice(), &open_mpi].concat();
        assert_eq!(of(&both), Some(("mpirun", 4, 3)));
    }

    #[test]
    fn first_process_tells_first_and_none_waits_long() {
        assert!(turn(0).is_zero());
        assert!(turn(1) < turn(2));
        assert!(turn(511) < Duration::from_secs(7));
    }
}
