//! The tables and figures of the paper, and ablations that have not been published.

mod ablations;
pub mod figure3;
pub mod figure4;
pub mod figure5_depth;
pub mod figure5_speed;
pub mod finding;
pub mod long_context;
pub mod lra;
pub mod recall;
pub mod table1;
pub mod table2;
pub mod table3;
pub mod table4;
pub mod use_of_context;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

pub use ablations::{
    ablation_across_buckets, ablation_duplicates, ablation_logit_scale, ablation_reversal,
    ablation_rotations, ablation_window,
};

use crate::cli;
use crate::measure::allocator::keep_freed_memory;
use crate::study::{
    Comparison, DataArguments, Scale, SeedArguments, SetArguments, StudyArguments, compare,
};

/// Flags of studies that train models on the user's data.
#[derive(Debug, clap::Parser)]
#[command(version)]
pub(in crate::programs) struct Arguments {
    #[command(flatten)]
    study: StudyArguments,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    sets: SetArguments,
    #[command(flatten)]
    seeds: SeedArguments,
}

/// The text after `--help`, which gives the cost of each preset.
fn help(name: &str, flags: &str, cpu: &str, paper: &str) -> String {
    format!(
        "\
Examples:
  {cpu}:
    {name}{flags}
  Seconds, to check that it works:
    {name} --preset smoke
  {paper}:
    {name}{flags} --preset paper --device cuda

It writes config.json, results.json, results.csv, curves.csv, figure.svg, figure.png and table.md into
OUT/{name}/PRESET. A study that was interrupted or killed resumes when it is called again."
    )
}

/// Parses the flags, with the study's description and help text.
fn parse<A: CommandFactory + FromArgMatches>(name: &'static str, about: &str, help: &str) -> A {
    let command = A::command()
        .name(name)
        .about(about.to_owned())
        .after_help(help.to_owned());
    cli::parse_with(command)
}

/// Runs a comparison as a program.
fn comparison(
    about: &str,
    help: &str,
    name: &'static str,
    comparison: impl FnOnce(Scale) -> Comparison,
) -> ExitCode {
    let arguments: Arguments = parse(name, about, help);
    keep_freed_memory();
    cli::main(|| {
        let comparison = comparison(arguments.study.preset);
        compare(
            &comparison,
            &arguments.study,
            &arguments.data,
            &arguments.sets,
            &arguments.seeds,
        )
    })
}
