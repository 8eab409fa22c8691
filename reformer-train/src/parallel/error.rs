//! What can go wrong between the nodes of a run.

use std::io;

use burn::train::Interrupter;
use thiserror::Error;

/// Why nodes cannot train together, or not any more.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ParallelError {
    /// An address that the first node cannot have.
    #[error("`{address}` cannot be listened on: {source}; give HOST:PORT of this machine")]
    Listen {
        /// The address.
        address: String,
        /// What the operating system answered.
        source: io::Error,
    },

    /// Nodes that did not come.
    #[error(
        "only {n_present} of {n_nodes} nodes came to `{address}` in {seconds} s: start the others \
         with `--join`"
    )]
    Missing {
        /// Where they were awaited.
        address: String,
        /// Nodes that are there, with the first.
        n_present: usize,
        /// Nodes of the run.
        n_nodes: usize,
        /// How long they were awaited.
        seconds: u64,
    },

    /// A run that a node cannot join.
    #[error(
        "no run waits for nodes at `{address}` ({source}): start one there with `--nodes` and \
         `--listen`"
    )]
    Unreachable {
        /// The address.
        address: String,
        /// What the operating system answered last.
        source: io::Error,
    },

    /// A node that broke off.
    #[error("{node} is lost: {reason}")]
    Lost {
        /// Its number and address.
        node: String,
        /// How that showed.
        reason: String,
    },

    /// A node that gave up, and why.
    #[error("{node} gave up: {reason}")]
    GaveUp {
        /// Its number and address.
        node: String,
        /// Its own words.
        reason: String,
    },

    /// The first node came to the end of the run. Not an error to a node that only helped.
    #[error("the run has ended: {reason}")]
    Ended {
        /// How.
        reason: String,
    },

    /// A node was told to stop. The run ends on all, at its last checkpoint.
    #[error("this node was stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },

    /// Something that a node of this version would not send.
    #[error("{node} does not do as this version does: {reason}")]
    Protocol {
        /// Its number and address.
        node: String,
        /// What is wrong.
        reason: String,
    },
}

impl ParallelError {
    /// Somebody stopped this node.
    pub(super) fn stopped(interrupter: &Interrupter) -> Self {
        let reason = interrupter.get_message();
        Self::Stopped {
            reason: reason.unwrap_or_else(|| "stopped".to_owned()),
        }
    }
}
