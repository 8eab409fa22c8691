//! Flags for several devices and several processes, and what a process does that only helps.

use anyhow::Result;
use burn::tensor::backend::AutodiffBackend;
use burn::train::Interrupter;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reformer_core::kernels::ReformerBackend;
use reformer_train::parallel::{Coordinator, Member, Patience};

use crate::interrupt;

/// More than one device.
#[derive(Debug, Args)]
#[command(next_help_heading = "Several devices and machines")]
pub struct NodeArguments {
    /// Devices of this process, by number; each computes its part of every batch
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    pub devices: Option<Vec<u16>>,
    /// Number of processes that train together, of which this is the first
    #[arg(long, value_name = "N", requires = "listen", value_parser = clap::value_parser!(u16).range(2..))]
    nodes: Option<u16>,
    /// Where the others reach this one: an address of this machine (0.0.0.0 for any) and a port
    #[arg(long, value_name = "HOST:PORT", requires = "nodes")]
    listen: Option<String>,
    /// Be one of the others: help with the run that listens there, which has all settings
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = [
        "nodes", "listen", "resume", "preset", "sets", "name", "out", "EndArguments", "RunArguments",
        "ModelArguments"
    ])]
    pub join: Option<String>,
}

impl NodeArguments {
    /// Begins to listen for other processes, if there are to be any, and says how to start them.
    ///
    /// # Errors
    /// An address that cannot be listened on.
    pub fn listen(&self, program: &str) -> Result<Option<Coordinator>> {
        let (Some(n_nodes), Some(address)) = (self.nodes, &self.listen) else {
            return Ok(None);
        };
        let coordinator = Coordinator::listen(address, n_nodes.into())?;
        println!(
            "The run begins when {} more have come, each by:\n  \
             cargo run --release -p experiments --bin {program} -- --join {address}",
            n_nodes - 1
        );
        Ok(Some(coordinator))
    }
}

/// Helps with a run until it ends.
///
/// # Errors
/// A run that is not there, or a node that is lost.
pub fn help<B>(address: &str, devices: &[B::Device]) -> Result<()>
where
    B: AutodiffBackend + ReformerBackend,
    B::InnerBackend: ReformerBackend,
{
    println!("Joining the run at {address}");
    let member = Member::join(address, devices.len(), Patience::default())?;
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}");
    let bar = ProgressBar::new(member.config().steps as u64)
        .with_position(member.step() as u64)
        .with_style(style.expect("the template is a constant"));
    let interrupter = Interrupter::new();
    interrupt::on_ctrl_c(interrupter.clone())?;
    let helped = member.train::<B>(devices, &interrupter, |step, loss| {
        bar.set_position(step as u64);
        bar.set_message(format!("loss {loss:.4}"));
    });
    bar.finish_and_clear();
    println!("The run has ended: {}", helped?.reason);
    Ok(())
}
