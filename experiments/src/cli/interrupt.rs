//! Signals that request a stop.

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use burn::train::Interrupter;
use reformer_train::screen::dashboard;

/// Exit code of a program that was ended by Ctrl-C, as in shells.
pub(crate) const ENDED_BY_CTRL_C: u8 = 130;

/// A program that stopped on request and has printed how to resume: an error only for callers that need the
/// results it does not have yet.
#[derive(Debug)]
pub(crate) struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped")
    }
}

impl Error for Stopped {}

/// Whether a signal ends the program at once, instead of requesting a stop.
static ENDS_AT_ONCE: AtomicBool = AtomicBool::new(false);

/// Makes Ctrl-C end the program from now on: everything is saved.
pub(crate) fn end_at_once() {
    ENDS_AT_ONCE.store(true, Ordering::Relaxed);
}

/// Makes the first Ctrl-C, or a request to terminate, end a training after the step that is being
/// computed, and the second one end the program. SIGUSR1, which Slurm sends before a time limit, only
/// requests a stop, however often it comes.
///
/// # Errors
/// A handler that exists already.
pub(crate) fn on_ctrl_c(interrupter: Interrupter) -> Result<()> {
    on_signals(interrupter, false)
}

/// Makes the first Ctrl-C stop a measurement, which then covers the part that was done, and the second
/// one end the program.
///
/// # Errors
/// A handler that exists already.
pub(crate) fn stops_measuring() -> Result<Interrupter> {
    let interrupter = Interrupter::new();
    handle(
        interrupter.clone(),
        Some("Stopping the measurement. Press Ctrl-C again to quit at once."),
    )?;
    Ok(interrupter)
}

/// Like [`on_ctrl_c`], for one of several processes if `is_one_of_several`: each process can get signals, but only
/// the first one's output is shown. A launcher that ends a run sends more than one.
///
/// # Errors
/// A handler that exists already.
pub(crate) fn on_signals(interrupter: Interrupter, is_one_of_several: bool) -> Result<()> {
    #[cfg(unix)]
    on_usr1(interrupter.clone())?;
    let message = "Finishing this step and saving. Press Ctrl-C again to quit at once.";
    handle(interrupter, (!is_one_of_several).then_some(message))
}

/// Stops at the first signal and prints the message; without one, further signals do not end the program.
fn handle(interrupter: Interrupter, message: Option<&'static str>) -> Result<()> {
    ctrlc::set_handler(move || {
        if ENDS_AT_ONCE.swap(true, Ordering::Relaxed) && message.is_some() {
            dashboard::leave();
            std::process::exit(ENDED_BY_CTRL_C.into());
        }
        // First of all, since printing may fail.
        interrupter.stop(Some("Ctrl-C."));
        if let Some(message) = message {
            eprintln!("{message}");
        }
    })
    .context("Ctrl-C cannot be handled")
}

#[cfg(unix)]
fn on_usr1(interrupter: Interrupter) -> Result<()> {
    use signal_hook::consts::SIGUSR1;
    use signal_hook::iterator::Signals;

    let mut signals = Signals::new([SIGUSR1]).context("SIGUSR1 cannot be handled")?;
    std::thread::spawn(move || {
        for _ in &mut signals {
            interrupter.stop(Some("SIGUSR1."));
        }
    });
    Ok(())
}
