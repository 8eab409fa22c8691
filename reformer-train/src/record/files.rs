//! Files as they are written and read here.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes a file under another name and then renames it: whoever looks, and whenever the program
/// is killed, the path names the old content or the new one, never a part.
///
/// # Errors
/// Whatever the operating system or `write` answers; the old content then stays.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let mut name = OsString::from(path.file_name().unwrap_or_default());
    name.push(".partial");
    let partial = path.with_file_name(name);
    let mut writer = BufWriter::new(File::create(&partial)?);
    let written = write(&mut writer)
        .and_then(|()| writer.flush())
        // Otherwise a power failure could keep the new name and lose the content.
        .and_then(|()| writer.get_ref().sync_all())
        .and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // It may be the disk that is full. Nothing more can be done about a second failure.
        fs::remove_file(&partial).ok();
    }
    written
}

/// Bytes of a file that is read as a whole: texts that people read, too.
const MAX_TEXT: u64 = 1 << 30;

/// Reads a file, and nothing that would be waited for or has no end.
pub(crate) fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(invalid("it is no file".to_owned()));
    }
    if metadata.len() > MAX_TEXT {
        let length = metadata.len();
        return Err(invalid(format!(
            "it has {length} bytes, of at most {MAX_TEXT}"
        )));
    }
    fs::read(path)
}

/// Adds a line to a file, whole or not at all: what a full disk takes a part of is cut off again.
pub(crate) fn append_line(file: &mut File, line: &[u8]) -> io::Result<()> {
    let length = file.metadata()?.len();
    file.write_all(line).inspect_err(|_| {
        file.set_len(length).ok();
    })
}
