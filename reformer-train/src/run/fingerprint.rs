//! Whether a file is what it was.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Size and hash of a file or a folder, by which a change is noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    /// All bytes.
    pub(super) bytes: u64,
    /// Of a file's bytes, or of the names and bytes of a folder's files, in hexadecimal.
    pub(super) hash: String,
}

impl Fingerprint {
    /// Reads a file or a folder. What cannot be read twice has none.
    pub(super) fn of(path: &Path) -> io::Result<Option<Self>> {
        let mut hasher = crc32fast::Hasher::new();
        let metadata = fs::metadata(path)?;
        let bytes = if metadata.is_dir() {
            folder(path, &mut hasher)?
        } else if metadata.is_file() {
            file(path, &mut hasher)?
        } else {
            return Ok(None);
        };
        let hash = format!("{:08x}", hasher.finalize());
        Ok(Some(Self { bytes, hash }))
    }
}

fn file(path: &Path, hasher: &mut crc32fast::Hasher) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut chunk = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(bytes),
            n => {
                hasher.update(&chunk[..n]);
                bytes += n as u64;
            }
        }
    }
}

/// All files below a folder; what links lead to is not gone through.
fn folder(path: &Path, hasher: &mut crc32fast::Hasher) -> io::Result<u64> {
    let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut bytes = 0;
    for entry in entries {
        let kind = entry.file_type()?;
        hasher.update(entry.file_name().as_encoded_bytes());
        hasher.update(&[0]);
        if kind.is_dir() {
            bytes += folder(&entry.path(), hasher)?;
        } else if kind.is_file() {
            bytes += file(&entry.path(), hasher)?;
        }
    }
    Ok(bytes)
}
