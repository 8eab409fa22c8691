//! The tables and figures of the paper, and ablations that have not been published.

mod ablations;
mod figure3;
mod figure4;
mod figure5_depth;
mod figure5_speed;
mod finding;
mod long_context;
mod lra;
mod recall;
mod table1;
mod table2;
mod table3;
mod table4;
mod use_of_context;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Program;
use crate::cli;
use crate::measure::subprocess::run_measurement;
use crate::study::{
    Comparison, DataArguments, Scale, SeedArguments, SetArguments, StudyArguments, run_comparison,
};

/// All studies. A new one is its file, a line here, and a row in `experiments/README.md`.
pub const STUDIES: &[Program] = programs! {
    "study table1", "table1_complexity", "memory and time of attention over length", table1::main, MeasuredArguments;
    "study table2", "table2_duplication", "duplication, by rounds in training and evaluation", table2::main, table2::Arguments;
    "study table3", "table3_memory", "from a Transformer to a Reformer", table3::main, MeasuredArguments;
    "study table4", "table4_translation", "translation with reversible layers", table4::main, table4::Arguments;
    "study figure3", "figure3_sharing_and_reversibility", "shared queries and keys, reversible layers", figure3::main, Arguments;
    "study figure4", "figure4_hash_rounds", "hash rounds against full attention", figure4::main, Arguments;
    "study figure5-depth", "figure5_depth", "bits per byte over depth", figure5_depth::main, Arguments;
    "study figure5-speed", "figure5_speed", "time over length", figure5_speed::main, MeasuredArguments;
    "study long-context", "long_context", "a million tokens", long_context::main, MeasuredArguments;
    "study recall", "recall", "how much of exact attention hashing finds", recall::main, Arguments;
    "study finding", "finding", "retrieval tasks, up to 128 times the trained length", finding::main, finding::Arguments;
    "study lra", "lra", "tasks of the Long Range Arena, with full, local and LSH attention", lra::main, lra::Arguments;
    "study use-of-context", "use_of_context", "bits by position in long windows", use_of_context::main, Arguments;
    "study across-buckets", "ablation_across_buckets", "chunks within or across buckets", ablations::across_buckets, Arguments;
    "study duplicates", "ablation_duplicates", "keys that several rounds find", ablations::duplicates, Arguments;
    "study logit-scale", "ablation_logit_scale", "the scale of logits", ablations::logit_scale, Arguments;
    "study reversal", "ablation_reversal", "exact and ordinary reversal", ablations::reversal, Arguments;
    "study rotations", "ablation_rotations", "fixed and redrawn rotations", ablations::rotations, Arguments;
    "study window", "ablation_window", "windows of LSH attention: sorted chunks, or the last positions of a bucket", ablations::window, Arguments;
};

/// Flags of studies that train models on the user's data.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    study: StudyArguments,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    sets: SetArguments,
    #[command(flatten)]
    seeds: SeedArguments,
}

/// Flags of studies that measure, each time in a process of its own, and train nothing.
#[derive(Debug, Parser)]
#[command(version)]
struct MeasuredArguments {
    #[command(flatten)]
    study: StudyArguments,
    /// Measure this in a subprocess, and print it as JSON
    #[arg(long, value_name = "JSON", hide = true)]
    measure: Option<String>,
}

/// What `--help` says of a study besides its flags.
#[derive(Debug, Default)]
struct About {
    /// Name of its results.
    name: &'static str,
    about: &'static str,
    /// Flags of the examples, after a space.
    flags: &'static str,
    /// What the preset `cpu` takes.
    cpu: &'static str,
    /// What the preset `paper` takes.
    paper: &'static str,
    /// Text below the rest.
    notes: &'static str,
}

impl About {
    /// Runs the study as a program.
    fn run<A: Parser>(self, run: impl FnOnce(A) -> Result<()>) -> ExitCode {
        let command = A::command().name(self.name).about(self.about);
        cli::program_with(command.after_help(self.help()), run)
    }

    /// Runs a study that compares trained variants.
    fn comparison(self, comparison: impl FnOnce(Scale) -> Comparison) -> ExitCode {
        self.run(|arguments: Arguments| {
            let comparison = comparison(arguments.study.preset);
            run_comparison(
                &comparison,
                &arguments.study,
                &arguments.data,
                &arguments.sets,
                &arguments.seeds,
            )
        })
    }

    /// Runs a study that measures: with `measure` in its subprocesses, which `report` starts.
    fn measured<A: DeserializeOwned, T: Serialize>(
        self,
        measure: impl FnOnce(A) -> Result<T>,
        report: impl FnOnce(&StudyArguments) -> Result<()>,
    ) -> ExitCode {
        self.run(|arguments: MeasuredArguments| match &arguments.measure {
            Some(task) => run_measurement(task, measure),
            None => report(&arguments.study),
        })
    }

    /// The text after the flags.
    fn help(&self) -> String {
        let Self {
            name,
            flags,
            cpu,
            paper,
            notes,
            ..
        } = self;
        let study = STUDIES.iter().find(|study| study.name == *name);
        let words = study.map_or(*name, |study| study.words);
        format!(
            "\
Examples:
  {cpu}:
    reformer {words}{flags}
  Seconds, to check that it works:
    reformer {words} --preset smoke
  {paper}:
    reformer {words}{flags} --preset paper --device cuda

It writes config.json, results.json, results.csv, curves.csv, figure.svg, figure.png and table.md into
OUT/{name}/PRESET. A study that was interrupted or killed resumes when it is called again.{}{notes}",
            if notes.is_empty() { "" } else { "\n" }
        )
    }
}
