//! Output of programs.
//!
//! In this crate `print!`, `println!` and `eprintln!` are the macros below, which cannot panic: a closed pipe
//! or a full disk is not a reason to lose a training. The first error on the standard output is
//! kept until [`finish`]. Messages are made [`printable`]; the actual results of a program go through an
//! [`Output`].

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::bail;
use reformer_core::write_atomically;
use reformer_train::screen::console::{self, printable};

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

/// Refuses an output file that is read as well, even under another name: results would take its place.
///
/// # Errors
/// An output that is one of the inputs, in a folder that is, or a file of any run or model, whether or not it exists.
pub(crate) fn check_not_read(
    flag: &str,
    output: Option<&Path>,
    inputs: impl IntoIterator<Item = impl AsRef<Path>>,
) -> anyhow::Result<()> {
    let Some(output) = output else {
        return Ok(());
    };
    match (is_of_model(output), output.is_file()) {
        (true, true) => bail!(
            "`{flag}` is `{}`, but this file of a run or model is read, and would be overwritten: name another file to \
             write",
            output.display()
        ),
        (true, false) => bail!(
            "`{flag}` is `{}`, but the run or model there would take it for a file of its own: name another file to write",
            output.display()
        ),
        (false, true) => {}
        (false, false) => return Ok(()),
    }
    let mut inputs = inputs.into_iter();
    match inputs.find(|input| is_in(output, input.as_ref())) {
        None => Ok(()),
        Some(input) => bail!(
            "`{flag}` is `{}`, but `{}` is read, and would be overwritten: name another file to write",
            output.display(),
            input.as_ref().display()
        ),
    }
}

/// Refuses two output files, each with its flag, that are one: the second would replace the first.
///
/// # Errors
/// Two names of the same file, whether or not it exists.
pub(crate) fn check_apart(outputs: [(&str, &Path); 2]) -> anyhow::Result<()> {
    let [(flag, output), (other_flag, other)] = outputs;
    let is_kept = output.is_file() || !output.exists();
    match is_kept && is_in(output, other) {
        false => Ok(()),
        true => bail!(
            "`{flag}` is `{}`, and `{other_flag}` is the same file: name another one for either",
            output.display()
        ),
    }
}

/// Files and folders of a run, and files of a model of Hugging Face.
const PARTS_OF_MODELS: [&str; 15] = [
    "config.json",
    "run.json",
    "metrics.csv",
    "samples.jsonl",
    "model.mpk",
    "checkpoint",
    "lock",
    "classes.json",
    "subwords.json",
    "tokenizer.json",
    "spiece.model",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Whether a file is one that makes up a run or a model of Hugging Face. Other files in their folders are results, such
/// as reports.
fn is_of_model(file: &Path) -> bool {
    let Some(file) = whole(file) else {
        return false;
    };
    let mut folders = file.ancestors().skip(1).take(2);
    folders.any(|folder| {
        let part = file
            .strip_prefix(folder)
            .ok()
            .and_then(|part| part.iter().next());
        let is_part = PARTS_OF_MODELS
            .iter()
            .any(|name| part == Some(name.as_ref()));
        is_part && folder.join("config.json").is_file()
    })
}

/// Whether a file is another one or in that folder, in spite of links.
fn is_in(file: &Path, other: &Path) -> bool {
    match (whole(file), whole(other)) {
        (Some(file), Some(other)) => file.starts_with(&other) || is_same_file(&file, &other),
        _ => false,
    }
}

/// Most links that lead from one to the next, as many as Linux follows.
const MOST_LINKS: usize = 40;

/// A path without links. Its last part does not have to exist, and so does what a link leads to.
fn whole(path: &Path) -> Option<PathBuf> {
    let mut path = std::path::absolute(path).ok()?;
    for _ in 0..MOST_LINKS {
        if let Ok(whole) = path.canonicalize() {
            return Some(whole);
        }
        match path.read_link() {
            Ok(target) => path = path.parent()?.join(target),
            Err(_) => return Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?)),
        }
    }
    None
}

/// Whether two names are hard links to the same file.
#[cfg(unix)]
fn is_same_file(first: &Path, second: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let identity = |path: &Path| path.metadata().map(|found| (found.dev(), found.ino())).ok();
    identity(first).is_some_and(|first| identity(second) == Some(first))
}

#[cfg(not(unix))]
fn is_same_file(_: &Path, _: &Path) -> bool {
    false
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_read_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("texts")).unwrap();
        for name in ["texts/a", "b"] {
            fs::write(at(name), "read").unwrap();
        }
        let check =
            |output: &str, input: &str| check_not_read("--output", Some(&at(output)), [&at(input)]);
        let refused = |output: &str, input: &str| {
            let message = check(output, input).unwrap_err().to_string();
            assert!(message.starts_with("`--output` is `"), "{message}");
            assert!(message.ends_with("name another file to write"), "{message}");
        };
        refused("b", "b");
        refused("texts/../b", "b");
        refused("texts/a", "texts");
        check("b", "texts/a").unwrap();
        check("b", "texts").unwrap();
        check("new", "b").unwrap();
        check("texts/new", "texts").unwrap();
        check("b", "new").unwrap();
        check_not_read("--output", None, [&at("b")]).unwrap();

        // Of a run, whichever is read.
        fs::create_dir_all(at("run/checkpoint")).unwrap();
        for name in [
            "run/model.mpk",
            "run/checkpoint/model-1.mpk",
            "run/report.html",
        ] {
            fs::write(at(name), "read").unwrap();
            check(name, "b").unwrap();
        }
        fs::write(at("run/config.json"), "{}").unwrap();
        for name in [
            "run/config.json",
            "run/model.mpk",
            "run/checkpoint/model-1.mpk",
        ] {
            refused(name, "b");
        }
        check("run/report.html", "b").unwrap();
        // New ones as well, which it would read.
        for name in [
            "run/classes.json",
            "run/checkpoint/model-2.mpk",
            "run/checkpoint",
        ] {
            refused(name, "b");
        }
        for name in ["run/answers.json", "texts/classes.json", "none/run.json"] {
            check(name, "b").unwrap();
        }
        // Links lead there, too, whether or not there is anything yet.
        #[cfg(unix)]
        for target in ["run/classes.json", "run/model.mpk", "b"] {
            let link = at("link");
            std::os::unix::fs::symlink(at(target), &link).unwrap();
            refused("link", "b");
            fs::remove_file(link).unwrap();
        }

        let apart =
            |first: &str, second: &str| check_apart([("--a", &at(first)), ("--b", &at(second))]);
        apart("b", "new").unwrap();
        apart("new", "newer").unwrap();
        for [first, second] in [["b", "b"], ["new", "new"], ["texts/../new", "new"]] {
            let message = apart(first, second).unwrap_err().to_string();
            assert!(message.contains("`--b` is the same file"), "{message}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(at("b"), at("link")).unwrap();
            fs::hard_link(at("b"), at("hard")).unwrap();
            refused("link", "b");
            refused("b", "link");
            refused("hard", "b");
            refused("link", "hard");
            apart("link", "hard").unwrap_err();
            apart("/dev/null", "/dev/null").unwrap();
        }
    }
}
