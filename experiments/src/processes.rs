//! Flags for several devices and several processes, and what a process does that only helps.

use std::time::Duration;

use anyhow::Result;
use burn::tensor::backend::AutodiffBackend;
use clap::Args;
use reformer_core::kernels::ReformerBackend;
use reformer_train::TrainOptions;
use reformer_train::parallel::{Group, Member, Sharing, join};

use crate::device;
use crate::interrupt;

/// More than one device.
#[derive(Debug, Args)]
#[command(next_help_heading = "Several devices and machines (mpirun, srun)")]
pub struct ProcessArguments {
    /// Devices of each process, by number, which compute its part of every batch [default: of several
    /// processes on a machine, each has the GPU of its own number]
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    devices: Option<Vec<u16>>,
    /// Divide the optimizer's state among processes: less memory, more to send, the same weights
    #[arg(long)]
    shard_optimizer: bool,
    /// Send gradients as bf16: half as much, other weights
    #[arg(long)]
    half_gradients: bool,
    /// Seconds after which a process that hangs ends the run in all others
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = clap::value_parser!(u64).range(1..))]
    wait: u64,
}

impl ProcessArguments {
    /// Meets the other processes, if a launcher started several.
    ///
    /// # Errors
    /// A launcher of another MPI, or a program without any.
    pub fn join(&self) -> Result<Option<Group>> {
        Ok(join(Duration::from_secs(self.wait))?)
    }

    /// What the processes share.
    pub fn sharing(&self) -> Sharing {
        Sharing {
            optimizer: self.shard_optimizer,
            half_gradients: self.half_gradients,
        }
    }

    /// The devices of this process: those that were named, or the default one, which is that of its
    /// own number where several processes have several devices to choose from.
    ///
    /// # Errors
    /// A number that no device has, or one that is given twice.
    pub fn devices<B: AutodiffBackend>(
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

/// Helps with the run of the first process until it ends. `write` writes a sample by a model.
///
/// # Errors
/// Data or a device that this machine does not have, or a process that does not come.
pub fn help<B>(
    group: &Group,
    devices: &[B::Device],
    options: impl FnOnce(&Member) -> TrainOptions<B>,
) -> Result<()>
where
    B: AutodiffBackend + ReformerBackend,
    B::InnerBackend: ReformerBackend,
{
    let Some(member) = Member::wait(group)? else {
        return Ok(());
    };
    let options = options(&member);
    interrupt::on_signals(options.interrupter.clone(), true)?;
    member.train_on::<B>(devices, options)?;
    Ok(())
}
