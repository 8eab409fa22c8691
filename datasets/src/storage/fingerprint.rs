//! Detects changes of a file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::error::DatasetError;
use crate::report::ReadReport;
use crate::storage::walk;

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 18;

/// Size and hash of a file or a folder, to detect changes. It protects against accidents, not
/// against deliberate manipulation.
///
/// # Example
///
/// ```
/// use reformer_datasets::Fingerprint;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("notes.txt");
/// std::fs::write(&path, "A note.")?;
/// let before = Fingerprint::of(&path)?.expect("a file has one");
/// assert_eq!(before.bytes, 7);
/// std::fs::write(&path, "A nose.")?;
/// assert_ne!(Fingerprint::of(&path)?, Some(before));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// All bytes.
    pub bytes: u64,
    /// XXH3 of 128 bits, in hexadecimal: of a file's bytes, or of the paths, sizes and bytes of a
    /// folder's files.
    pub hash: String,
}

impl Fingerprint {
    /// Reads a file, or all files of a folder that a data set would read. `None` for what cannot be
    /// read twice, like a pipe. Takes the time of reading, and no memory.
    ///
    /// # Errors
    /// [`NotFound`](DatasetError::NotFound), [`Unreadable`](DatasetError::Unreadable) or the errors
    /// of a folder that cannot be listed.
    pub fn of(path: impl AsRef<Path>) -> Result<Option<Self>, DatasetError> {
        let path = path.as_ref();
        let unreadable = |source| DatasetError::from_io(path, source);
        let metadata = fs::metadata(path).map_err(unreadable)?;
        let mut hasher = Xxh3::new();
        let bytes = if metadata.is_dir() {
            let mut bytes = 0;
            for file in walk(path, &mut ReadReport::default())? {
                let inside = file.strip_prefix(path).unwrap_or(&file);
                hasher.update(inside.as_os_str().as_encoded_bytes());
                // A byte that no path contains, so that different folders have different input.
                hasher.update(&[0]);
                let len = hash_file(&file, &mut hasher)
                    .map_err(|source| DatasetError::from_io(&file, source))?;
                hasher.update(&len.to_le_bytes());
                bytes += len;
            }
            bytes
        } else if metadata.is_file() {
            hash_file(path, &mut hasher).map_err(unreadable)?
        } else {
            return Ok(None);
        };
        Ok(Some(Self {
            bytes,
            hash: format!("{:032x}", hasher.digest128()),
        }))
    }
}

/// Hashes as many bytes of a file as it had when it was opened, and returns their number.
fn hash_file(path: &Path, hasher: &mut Xxh3) -> io::Result<u64> {
    let file = File::open(path)?;
    let mut rest = file.metadata()?.len();
    let mut chunk = vec![0; CHUNK];
    let mut bytes = 0;
    while rest > 0 {
        let wanted = rest.min(CHUNK as u64) as usize;
        let n = match (&file).read(&mut chunk[..wanted]) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&chunk[..n]);
        rest -= n as u64;
        bytes += n as u64;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn hash_is_the_specified_one() -> Outcome {
        let file = tempfile::NamedTempFile::new()?;
        // XXH3_128bits of no bytes, from the reference implementation.
        let empty = Fingerprint::of(file.path())?.ok_or("a file")?;
        assert_eq!(empty.hash, "99aa06d3014798d86001c324468d497f");
        let long: Vec<u8> = (0..CHUNK * 2 + 5).map(|i| (i % 251) as u8).collect();
        fs::write(file.path(), &long)?;
        let read = Fingerprint::of(file.path())?.ok_or("a file")?;
        let expected = xxhash_rust::xxh3::xxh3_128(&long);
        assert_eq!(
            (read.bytes, read.hash),
            (long.len() as u64, format!("{expected:032x}"))
        );
        Ok(())
    }

    #[test]
    fn moved_bytes_and_names_of_a_folder_are_noticed() -> Outcome {
        let of = |files: &[(&str, &str)]| -> Result<Fingerprint, Box<dyn std::error::Error>> {
            let folder = tempfile::tempdir()?;
            for (name, text) in files {
                fs::write(folder.path().join(name), text)?;
            }
            Ok(Fingerprint::of(folder.path())?.ok_or("a folder")?)
        };
        let first = of(&[("a", "xy"), ("b", "z")])?;
        assert_eq!(first.bytes, 3);
        assert_eq!(first, of(&[("b", "z"), ("a", "xy")])?);
        assert_ne!(first, of(&[("a", "x"), ("b", "yz")])?);
        assert_ne!(first, of(&[("a", "xy"), ("c", "z")])?);
        assert!(Fingerprint::of("no/such/file").is_err());
        Ok(())
    }
}
