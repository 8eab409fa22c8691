//! Flags of the programs that train models with a head.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::cli::absolute;

/// Flags that name labelled texts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
pub struct LabelledArguments {
    /// What to train on: see below [default: a sample that ships with the project]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["resume", "join"])]
    data: Option<PathBuf>,
    /// The same, to validate on [default: about a tenth of the texts of --data]
    #[arg(long, value_name = "PATH", requires = "data")]
    valid: Option<PathBuf>,
}

impl LabelledArguments {
    /// What is named to train on and to validate on, if anything is, as what `at` makes of a path.
    ///
    /// # Errors
    /// What is no path.
    pub fn files<F>(&self, at: fn(PathBuf) -> F) -> Result<Option<(F, Option<F>)>> {
        let Some(data) = &self.data else {
            return Ok(None);
        };
        let valid = self.valid.as_deref().map(absolute).transpose()?;
        Ok(Some((at(absolute(data)?), valid.map(at))))
    }
}
