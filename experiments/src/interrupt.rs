//! Ctrl-C as a wish to stop.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use burn::train::Interrupter;

/// Exit code of a program that Ctrl-C ended, as shells have it.
const ENDED_BY_CTRL_C: i32 = 130;

/// Makes the first Ctrl-C, or a request to terminate, end a training after the step that is being
/// computed, and the second one end the program.
///
/// # Errors
/// A handler that is there already.
pub fn on_ctrl_c(interrupter: Interrupter) -> Result<()> {
    let was_pressed = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if was_pressed.swap(true, Ordering::Relaxed) {
            std::process::exit(ENDED_BY_CTRL_C);
        }
        // First of all: what is told may reach nobody.
        interrupter.stop(Some("Ctrl-C."));
        eprintln!("Finishing the step and saving; once more to end at once.");
    })
    .context("Ctrl-C cannot be handled")
}
