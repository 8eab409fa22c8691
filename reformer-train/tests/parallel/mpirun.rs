//! `mpirun`, if it is installed.

use std::io::{self, Write};
use std::process::{Command, Output};

/// A command that starts several processes of a program; `None` where that is not possible, which is reported.
pub(crate) fn mpirun() -> Option<Command> {
    let skipped = |reason: &str| {
        // Not caught by the test harness: a skipped test must not look like one that passed.
        let message = format!("SKIPPED: {reason}, so no processes train together\n");
        io::stderr().write_all(message.as_bytes()).ok();
        None
    };
    if !cfg!(feature = "mpi") {
        return skipped("this was built without the feature mpi");
    }
    let version = Command::new("mpirun").arg("--version").output();
    let is_open_mpi = |output: Output| String::from_utf8_lossy(&output.stdout).contains("Open MPI");
    if !version.is_ok_and(is_open_mpi) {
        return skipped("there is no mpirun of Open MPI");
    }
    let mut command = Command::new("mpirun");
    command
        .args(["--quiet", "--oversubscribe", "--bind-to", "none"])
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env_remove("RUST_BACKTRACE");
    Some(command)
}
