//! Burn's dashboard, with the usual meaning of Ctrl-C.

use std::io;

use burn::train::Interrupter;
use burn::train::renderer::tui::TuiMetricsRendererWrapper;
use crossterm::cursor::Show;
use crossterm::execute;
use crossterm::terminal::{LeaveAlternateScreen, disable_raw_mode, is_raw_mode_enabled};

/// Burn's panic message when a training is killed from its dashboard.
pub const KILLED: &str = "Killing training from user input.";

/// Opens the dashboard of a run of which some epochs are done.
pub(crate) fn open(interrupter: Interrupter, n_epochs_done: usize) -> TuiMetricsRendererWrapper {
    let checkpoint = (n_epochs_done > 0).then_some(n_epochs_done);
    let dashboard = TuiMetricsRendererWrapper::new(interrupter, checkpoint);
    #[cfg(unix)]
    terminal::hear_ctrl_c();
    dashboard
}

/// Restores the terminal, if a dashboard uses it, before the process exits without ending the training.
pub fn leave() {
    if is_raw_mode_enabled().unwrap_or(false) {
        // A failure cannot be reported anywhere.
        disable_raw_mode().ok();
        execute!(io::stdout(), LeaveAlternateScreen, Show).ok();
    }
}

#[cfg(unix)]
mod terminal {
    use std::fs::File;
    use std::thread;
    use std::time::{Duration, Instant};

    use crossterm::terminal::is_raw_mode_enabled;
    use rustix::io::Result;
    use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};

    /// Time limit for the dashboard to take over the terminal.
    const PATIENCE: Duration = Duration::from_secs(10);
    /// The value of a control character that disables its signal.
    const DISABLED: u8 = 0;

    /// Lets Ctrl-C send a signal again once the dashboard has put the terminal into raw mode. The dashboard
    /// itself does not handle this key.
    pub(crate) fn hear_ctrl_c() {
        thread::spawn(|| {
            let started = Instant::now();
            while started.elapsed() < PATIENCE {
                if is_raw_mode_enabled().unwrap_or(false) {
                    // Without a terminal, no keys are pressed.
                    if let Ok(terminal) = File::open("/dev/tty") {
                        signal_on_ctrl_c(&terminal).ok();
                    }
                    return;
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
    }

    /// Only Ctrl-C sends a signal: stopped by Ctrl-Z, a dashboard would keep the terminal.
    fn signal_on_ctrl_c(terminal: &File) -> Result<()> {
        let mut modes = tcgetattr(terminal)?;
        modes.local_modes |= LocalModes::ISIG;
        modes.special_codes[SpecialCodeIndex::VSUSP] = DISABLED;
        modes.special_codes[SpecialCodeIndex::VQUIT] = DISABLED;
        tcsetattr(terminal, OptionalActions::Now, &modes)
    }
}
