//! Measurements in a subprocess, so that its peak memory is that of the measurement alone.

use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::called;

/// Runs this program again with `--measure`, and parses its output.
///
/// # Errors
/// Any error of the subprocess, such as running out of memory.
pub(crate) fn measure_in_subprocess<T: DeserializeOwned>(task: &impl Serialize) -> Result<T> {
    let own = std::env::current_exe().context("the path of this program is unknown")?;
    let output = Command::new(own)
        .args(called::words())
        .arg("--measure")
        .arg(serde_json::to_string(task)?)
        .output()
        .context("this program cannot be started again")?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        match message.trim().trim_start_matches("error: ") {
            "" => bail!(
                "the measuring process was killed ({}): out of memory?",
                output.status
            ),
            message => bail!("{message}"),
        }
    }
    serde_json::from_slice(&output.stdout)
        .context("the measuring process printed something else than a measurement")
}

/// The part of the subprocess: measures, and prints the result.
pub(crate) fn run_measurement<A: DeserializeOwned, T: Serialize>(
    task: &str,
    measure: impl FnOnce(A) -> Result<T>,
) -> Result<()> {
    let task = serde_json::from_str(task).context("`--measure` is for this program itself")?;
    println!("{}", serde_json::to_string(&measure(task)?)?);
    Ok(())
}
