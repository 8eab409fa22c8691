//! Output of programs.
//!
//! In this crate `print!`, `println!` and `eprintln!` are the macros below, which cannot panic: a closed pipe
//! or a full disk is not a reason to lose a training. The first error on the standard output is
//! kept until [`finish`]. Messages are made [`printable`]; the actual results of a program go through an
//! [`Output`].

mod checks;

use std::error::Error;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use reformer_core::write_atomically;
use reformer_train::screen::console::{self, printable};

pub(crate) use checks::{check_apart, check_not_read, check_output};

/// Like that of the standard library, but an error is kept until the end.
macro_rules! print {
    ($($text:tt)*) => { $crate::out::print(&format!($($text)*)) };
}

/// Like that of the standard library, but an error is kept until the end.
macro_rules! println {
    ($($text:tt)*) => { $crate::out::print(&(format!($($text)*) + "\n")) };
}

/// Like that of the standard library, but errors are ignored.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::out::tell(&format!($($text)*)) };
}

/// The first error on the standard output.
static FAILURE: Mutex<Option<io::Error>> = Mutex::new(None);

/// Prints a message on the standard output, unless an earlier one failed.
pub(crate) fn print(text: &str) {
    write(printable(text).as_bytes()).ok();
}

/// Prints a line on the standard error output, and ignores errors.
pub(crate) fn tell(text: &str) {
    console::tell(text);
}

/// Flushes the standard output. A closed pipe is not an error: its reader has read what it wanted.
///
/// # Errors
/// The error that kept something from being printed, such as a full disk.
pub(crate) fn finish() -> io::Result<()> {
    let flushed = io::stdout().flush();
    let failed = FAILURE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    match failed.map_or(flushed, Err) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Whether an error is that of an [`Output`], which [`finish`] reports.
pub(crate) fn is_unwritten(error: &anyhow::Error) -> bool {
    let cause = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    cause.is_some_and(|cause| cause.is::<Unwritten>())
}

fn write(bytes: &[u8]) -> io::Result<()> {
    let mut failure = FAILURE.lock().unwrap_or_else(PoisonError::into_inner);
    if failure.is_none() {
        let mut stdout = io::stdout().lock();
        *failure = stdout.write_all(bytes).and_then(|()| stdout.flush()).err();
    }
    match &*failure {
        None => Ok(()),
        Some(error) => Err(io::Error::new(error.kind(), Unwritten)),
    }
}

/// The standard output could not be written.
#[derive(Debug)]
struct Unwritten;

impl fmt::Display for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot write to the standard output")
    }
}

impl Error for Unwritten {}

/// The standard output for results: unchanged in a file or a pipe, [`printable`] at a terminal. A program
/// with no other output ends with its first error.
#[derive(Debug)]
pub(crate) struct Output {
    is_terminal: bool,
}

impl Output {
    /// The standard output of this process.
    #[allow(clippy::new_without_default)]
    pub(crate) fn new() -> Self {
        Self {
            is_terminal: io::stdout().is_terminal(),
        }
    }
}

/// The number of an open file of this process, if a path names one: what the shell opened, perhaps to append to it,
/// is written into and not replaced.
fn descriptor(path: &Path) -> Option<u32> {
    let path = path.to_str()?;
    let number = |folder| {
        path.strip_prefix(folder)
            .and_then(|number| number.parse().ok())
    };
    match path {
        "/dev/stdout" => Some(1),
        "/dev/stderr" => Some(2),
        _ => number("/dev/fd/").or_else(|| number("/proc/self/fd/")),
    }
}

/// Writes results to a file, which is then complete or absent, or to the standard
/// output.
pub(crate) fn write_to(
    path: Option<&Path>,
    write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Some(path) = path else {
        return write(&mut Output::new());
    };
    match descriptor(path) {
        Some(1) => return write(&mut Output::new()),
        Some(2) => return write(&mut io::stderr()),
        Some(_) if path.is_file() => {
            let file = OpenOptions::new().append(true).open(path);
            let file = file.map_err(|error| named(path, &error))?;
            return write(&mut NamedFile { path, file });
        }
        _ => {}
    }
    let mut made = Ok(());
    let written = write_atomically(path, |file| {
        made = write(&mut NamedFile { path, file });
        made.as_ref()
            .map(|_| ())
            .map_err(|_| io::ErrorKind::Other.into())
    });
    // An error inside `write` is the cause.
    made?;
    written.map_err(|error| named(path, &error).into())
}

/// Writes a file, which is then complete or absent.
pub(crate) fn save(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_to(Some(path), |file| Ok(file.write_all(bytes)?))
}

/// A file whose errors contain its name.
struct NamedFile<'a, W> {
    path: &'a Path,
    file: W,
}

impl<W: Write> Write for NamedFile<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file
            .write(bytes)
            .map_err(|error| named(self.path, &error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(|error| named(self.path, &error))
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    let text = format!("`{}` cannot be written: {error}", path.display());
    io::Error::new(error.kind(), text)
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.is_terminal {
            true => write(printable(&String::from_utf8_lossy(bytes)).as_bytes())?,
            false => write(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
