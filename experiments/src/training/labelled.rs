//! Flags of the programs that train models with a head.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::cli::absolute;

/// Flags that name labelled texts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
pub(crate) struct LabelledArguments {
    /// Data to train on: see below [default: a sample that ships with the project]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["resume", "join"])]
    data: Option<PathBuf>,
    /// Validation data in the same form [default: about a tenth of the texts of --data]
    #[arg(long, value_name = "PATH", requires = "data")]
    valid: Option<PathBuf>,
}

impl LabelledArguments {
    /// The path of the training data, if it is given.
    pub(crate) fn data(&self) -> Result<Option<PathBuf>> {
        self.data.as_deref().map(absolute).transpose()
    }

    /// Training and validation data, if they are given; `at` converts each path.
    pub(crate) fn files<F>(&self, at: fn(PathBuf) -> F) -> Result<Option<(F, Option<F>)>> {
        let valid = self.valid.as_deref().map(absolute).transpose()?;
        Ok(self.data()?.map(|data| (at(data), valid.map(at))))
    }
}
