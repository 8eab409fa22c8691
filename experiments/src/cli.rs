//! The frame around every program: errors in one line, and what its arguments have in common.

use std::io;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

/// Text of the last panic, which the hook keeps so that it can be told in one line.
static LAST_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Runs a program. Prints an error, with its causes, in one line, and makes exit code 1 of it.
///
/// A panic is told in one line as well, unless `RUST_BACKTRACE` asks for more.
pub fn main(program: impl FnOnce() -> Result<()>) -> ExitCode {
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        panic::set_hook(Box::new(|panic| {
            let text = panic.to_string().replace('\n', " ");
            *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        }));
    }
    match quietly(program) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Ok(Err(error)) => fail(&format!("{error:#}")),
        Err(panic) => fail(&format!(
            "internal error (set RUST_BACKTRACE=1 for details): {panic}"
        )),
    }
}

/// Calls a function that may panic. The error is the panic's text.
pub fn quietly<T>(function: impl FnOnce() -> T) -> Result<T, String> {
    // Whoever is told of the panic gives up what the function worked on.
    panic::catch_unwind(panic::AssertUnwindSafe(function)).map_err(|_| {
        let mut last = LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner);
        last.take().unwrap_or_else(|| "a panic".to_owned())
    })
}

fn fail(message: &str) -> ExitCode {
    eprintln!("error: {}", message.replace('\n', " "));
    ExitCode::FAILURE
}

/// Whether the reader of the output went away, as `head` does: no reason to complain.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// A path that stays the same wherever the run is resumed from.
///
/// # Errors
/// What is no path.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("`{}` is no path", path.display()))
}

/// A path as an argument of a shell command that can be copied.
pub fn shell_argument(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_arguments_are_quoted_where_needed() {
        let quoted = |path: &str| shell_argument(Path::new(path));
        assert_eq!(quoted("runs/text-1"), "runs/text-1");
        assert_eq!(quoted("my runs/it's"), r"'my runs/it'\''s'");
    }

    #[test]
    fn panic_becomes_an_error() {
        assert_eq!(quietly(|| 7), Ok(7));
        assert!(quietly(|| panic!("no driver")).is_err());
    }
}
