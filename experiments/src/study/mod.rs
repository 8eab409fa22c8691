//! Code that the studies share: programs that reproduce a table or a figure of the paper, or compare variants.
//!
//! A [`Study`] has a folder, in which every measurement is stored at once, so that an interrupted
//! study can be resumed. It measures [trainings](open_and_train), one after the other, or
//! steps in [processes of their own](crate::measure::subprocess). At the end it writes a [`Report`].
//!
//! ```text
//! results/NAME/PRESET/
//! config.json        the settings, which must be the same to resume
//! points/, runs/     what has been measured so far, trainings among it
//! results.json       all numbers
//! results.csv        the table
//! curves.csv         the points of the figure
//! figure.svg, .png   laid out like the paper's
//! table.md           the table, with the paper's numbers, the command and the date
//! ```

pub(crate) mod base_training;
#[cfg(not(test))]
mod comparison;
mod counting;
mod folder;
#[cfg(not(test))]
mod plan;
pub(crate) mod recall;
mod report;
pub(crate) mod statistics;
#[cfg(not(test))]
mod steps;
mod table;
#[cfg(not(test))]
mod trainings;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::cli::device::DeviceName;

pub(crate) use base_training::{BaseTraining, DataArguments, DataKind};
#[cfg(not(test))]
pub(crate) use comparison::{Comparison, Contest, Variant, run_comparison};
pub(crate) use folder::Study;
pub(crate) use report::Report;
#[cfg(not(test))]
pub(crate) use steps::{open_and_measure, step};
pub(crate) use table::{Table, cell};
#[cfg(not(test))]
pub(crate) use trainings::{Trained, Training, open_and_train, open_and_train_as};

/// The scale of a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scale {
    /// Seconds, to check that it works; the numbers are meaningless.
    Smoke,
    /// Minutes on two CPU cores: small models that show the effect.
    Cpu,
    /// The paper's own set-up, on one large GPU.
    Paper,
}

impl Scale {
    /// Selects one of three values by the scale.
    pub(crate) fn pick<T>(self, smoke: T, cpu: T, paper: T) -> T {
        match self {
            Self::Smoke => smoke,
            Self::Cpu => cpu,
            Self::Paper => paper,
        }
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        self.pick("smoke", "cpu", "paper")
    }
}

/// Flags that change every training of a study.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SetArguments {
    /// Change any setting of all trainings, by its path in their config.json; can be repeated, for other settings
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
}

/// Flags for the seeds of a study.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SeedArguments {
    /// Number of seeds from which each variant is trained [default: 3 in cpu, otherwise 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100))]
    pub(crate) seeds: Option<u64>,
}

impl SeedArguments {
    /// The seeds of a study, beginning with that of its preset.
    pub(crate) fn of(&self, first: u64, scale: Scale) -> std::ops::Range<u64> {
        first..first + self.seeds.unwrap_or(scale.pick(1, 3, 1))
    }
}

/// Flags of every study.
#[derive(Debug, Clone, Args)]
pub(crate) struct StudyArguments {
    /// Scale of the study
    #[arg(long, value_enum, default_value = "cpu")]
    pub(crate) preset: Scale,
    /// Folder of results; the study writes into OUT/NAME/PRESET, or resumes there
    #[arg(long, value_name = "FOLDER", default_value = "results")]
    pub(crate) out: PathBuf,
    /// Backend to compute on
    #[arg(long, value_enum, default_value = "flex")]
    pub(crate) device: DeviceName,
    /// Print the planned trainings, their number of operations and the estimated time on a large GPU, and stop
    #[arg(long)]
    pub(crate) plan: bool,
}
