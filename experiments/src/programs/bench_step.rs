//! Times a training step and compares it with the machine's rate of matrix products.

use std::process::ExitCode;

use anyhow::Result;

use crate::cli;
use crate::measure::step::{Measurement, StepArguments, measure};

pub fn main() -> ExitCode {
    cli::program(|arguments: StepArguments| {
        let json = arguments.json;
        print(&measure(arguments)?, json)
    })
}

fn print(measurement: &Measurement, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(measurement)?);
        return Ok(());
    }
    let Measurement {
        seconds,
        tokens_per_second,
        gflop,
        ..
    } = measurement;
    println!("a step:          {seconds:.3} s, {tokens_per_second:.0} tokens/s");
    match measurement.peak_mib {
        Some(peak_mib) => println!("peak memory:     {peak_mib:.0} MiB"),
        None => println!("peak memory:     not known for this device"),
    }
    println!("products:        {gflop:.1} GFLOP");
    if let (Some(gflops), Some(ratio)) = (measurement.gemm_gflops, measurement.ratio_to_limit) {
        println!("large product:   {gflops:.0} GFLOP/s");
        println!("ratio to limit:  {ratio:.2}");
    }
    Ok(())
}
