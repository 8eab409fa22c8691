//! Checks of PyTorch files before they are read.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::pickle::Machine;

/// Maximum size of a pickle in bytes. A tensor takes about 200.
const MAX_PICKLE: u64 = 16 << 20;
/// Maximum number of files in an archive: one for each tensor, and a few more.
const MAX_FILES: usize = 4096;
/// Start of a file in the legacy format: a pickle with a magic number.
const LEGACY: [u8; 15] = [
    0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.',
];
/// Number of pickles between the magic number and the weights: version, system, tensors, and names of storages.
const LEGACY_PICKLES: usize = 4;
/// Checks a file of weights.
///
/// # Errors
/// The actual kind of file, or the limit that it exceeds.
pub(super) fn check(path: &Path) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut file = File::open(path).map_err(text)?;
    let length = file.metadata().map_err(text)?.len();
    // In the order of the reader: a file with the end of an archive is one, whatever its beginning.
    let not_archive = match zip::ZipArchive::new(BufReader::new(&file)) {
        Ok(archive) => return check_archive(archive, length),
        Err(error) => error,
    };
    file.seek(SeekFrom::Start(0)).map_err(text)?;
    let mut bytes = Vec::new();
    file.take(MAX_PICKLE)
        .read_to_end(&mut bytes)
        .map_err(text)?;
    let mut rest = bytes.strip_prefix(&LEGACY).ok_or_else(|| {
        format!("it is neither an archive nor an old file of PyTorch ({not_archive})")
    })?;
    (0..LEGACY_PICKLES).try_for_each(|_| Machine::run(&mut rest, length))
}

/// Checks an archive as written by PyTorch, without compressed entries.
fn check_archive<R: Read + Seek>(
    mut archive: zip::ZipArchive<R>,
    length: u64,
) -> Result<(), String> {
    if archive.len() > MAX_FILES {
        let n_files = archive.len();
        return Err(format!("it holds {n_files} files, of at most {MAX_FILES}"));
    }
    for number in 0..archive.len() {
        let entry = archive
            .by_index(number)
            .map_err(|error| error.to_string())?;
        let is_plain = entry.compression() == zip::CompressionMethod::Stored;
        if !is_plain || entry.size() > length || entry.size() != entry.compressed_size() {
            return Err("a file in it is packed, which PyTorch does not do".to_owned());
        }
        if entry.data_start().is_none() {
            return Err("the start of a file in it cannot be found".to_owned());
        }
        // All pickles are checked, since the reader decides which one it uses.
        if entry.name().ends_with(".pkl") {
            if entry.size() > MAX_PICKLE {
                let size = entry.size();
                return Err(format!(
                    "its pickle has {size} bytes, of at most {MAX_PICKLE}"
                ));
            }
            let mut bytes = Vec::new();
            let read = entry.take(MAX_PICKLE).read_to_end(&mut bytes);
            read.map_err(|error| error.to_string())?;
            Machine::run(&mut bytes.as_slice(), length)?;
        }
    }
    Ok(())
}
