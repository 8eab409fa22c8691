//! Tasks of the Long Range Arena as training data.

use std::path::{Path, PathBuf};

use burn::config::Config;
use reformer_datasets::SplitName;
use reformer_datasets::labelled::ClassifiedRows;
use reformer_datasets::long_range::{ListOpsConfig, LongRangeTask};

use crate::error::TrainError;

/// A task of the Long Range Arena, with parts for training, validation and the test; see
/// [`reformer_datasets::long_range`].
#[derive(Config, Debug, PartialEq, Eq)]
pub enum LongRangeConfig {
    /// ListOps, generated.
    Lists(
        /// What the lists are like, and how many there are.
        ListOpsConfig,
    ),
    /// A task from the benchmark's files.
    Files {
        /// Which one.
        task: LongRangeTask,
        /// The folder of its files.
        path: PathBuf,
    },
}

impl LongRangeConfig {
    /// Which task it is.
    pub fn task(&self) -> LongRangeTask {
        match self {
            Self::Lists(_) => LongRangeTask::ListOps,
            Self::Files { task, .. } => *task,
        }
    }

    /// The folder of its files.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Lists(_) => None,
            Self::Files { path, .. } => Some(path),
        }
    }

    /// One of its parts, in rows of at most `max_length` tokens.
    ///
    /// # Errors
    /// Files that are missing, unreadable or in another format, or lists that cannot be generated.
    pub fn open(&self, part: SplitName, max_length: usize) -> Result<ClassifiedRows, TrainError> {
        Ok(match self {
            Self::Lists(lists) => lists.init()?.rows(part, max_length),
            Self::Files { task, path } => task.open(path, part, max_length)?,
        })
    }
}
