//! Flags for several devices and several processes, and the work of processes after the first.

use std::time::Duration;

use anyhow::Result;
use burn::tensor::backend::AutodiffBackend;
use clap::Args;
use reformer_core::kernels::TrainBackend;
use reformer_train::Member;
use reformer_train::TrainOptions;
use reformer_train::parallel::{Group, Sharing, join};

use crate::cli::device;
use crate::cli::interrupt;

/// Flags for several devices or processes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Several devices and machines (mpirun, srun)")]
pub(crate) struct ProcessArguments {
    /// Devices of each process, by number, which share its part of every batch [default: with several processes on a
    /// machine, the GPU whose number is that of the process]
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    devices: Option<Vec<u16>>,
    /// Divide the optimizer's state among processes: less memory, more communication, the same weights
    #[arg(long)]
    shard_optimizer: bool,
    /// Send gradients as bf16: half the communication, slightly different weights
    #[arg(long)]
    half_gradients: bool,
    /// Seconds after which a process that hangs ends the run in all others
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = clap::value_parser!(u64).range(1..))]
    wait: u64,
}

impl ProcessArguments {
    /// Connects to the other processes, if a launcher started several.
    ///
    /// # Errors
    /// A launcher of another MPI, or a program that was built without MPI.
    pub(crate) fn join(&self) -> Result<Option<Group>> {
        Ok(join(Duration::from_secs(self.wait))?)
    }

    /// How the processes share gradients and the optimizer.
    pub(crate) fn sharing(&self) -> Sharing {
        Sharing {
            optimizer: self.shard_optimizer,
            half_gradients: self.half_gradients,
        }
    }

    /// The devices of this process: those that were given or, by default, the one whose number is that of the
    /// process on its machine, or the only one.
    ///
    /// # Errors
    /// A number without a device, or one that is given twice.
    pub(crate) fn devices<B: AutodiffBackend>(
        &self,
        default: B::Device,
        group: Option<&Group>,
    ) -> Result<Vec<B::Device>> {
        match (&self.devices, group) {
            (Some(numbers), _) => device::numbered::<B>(numbers),
            (None, Some(group)) if device::count::<B>() > 1 => {
                device::numbered::<B>(&[u16::try_from(group.local_rank())?])
            }
            (None, _) => Ok(vec![default]),
        }
    }
}

/// Takes part in the run of the first process until it ends. `write` generates a sample with a model.
///
/// # Errors
/// Data or a device that this machine lacks, or a process that does not connect.
pub(crate) fn take_part<B: TrainBackend>(
    group: &Group,
    devices: &[B::Device],
    options: impl FnOnce(&Member) -> TrainOptions<B>,
) -> Result<()> {
    let Some(member) = Member::wait(group)? else {
        return Ok(());
    };
    let options = options(&member);
    interrupt::on_signals(options.interrupter.clone(), true)?;
    member.train_on::<B>(devices, options)?;
    Ok(())
}
