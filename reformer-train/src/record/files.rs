//! Reading the files of a run, and adding to them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

/// Maximum size of a file that is read as a whole, such as a configuration.
const MAX_TEXT: u64 = 1 << 30;

/// Reads a regular file, and refuses paths that could block or never end.
///
/// # Errors
/// A path that is not a regular file, such as a pipe without a writer, a file that is larger than any
/// configuration, or one that cannot be read.
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open_regular(path)?;
    let length = file.metadata()?.len();
    if length > MAX_TEXT {
        return Err(invalid(format!(
            "it has {length} bytes, of at most {MAX_TEXT}"
        )));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a regular file: opening a pipe without a writer would block for ever.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    match fs::metadata(path)?.is_file() {
        true => File::open(path),
        false => Err(invalid("it is not a regular file".to_owned())),
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Appends a line to a file, completely or not at all: a part that was written to a full disk is cut off again.
pub(crate) fn append_line(file: &mut File, line: &[u8]) -> io::Result<()> {
    let length = file.metadata()?.len();
    file.write_all(line).inspect_err(|_| {
        file.set_len(length).ok();
    })
}
