//! Reading files, with errors that name them.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::error::DatasetError;
use crate::storage::{Bytes, pipe};

/// A copy of the bytes of a file or a pipe.
pub(crate) fn read_file(path: &Path) -> Result<Bytes, DatasetError> {
    let unreadable = |source| DatasetError::from_io(path, source);
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(DatasetError::Directory {
            path: path.to_owned(),
        });
    }
    if pipe::is_pipe(&metadata) {
        return pipe::read(path, &metadata);
    }
    if !metadata.is_file() {
        return Err(DatasetError::NoFile {
            path: path.to_owned(),
        });
    }
    let file = File::open(path).map_err(unreadable)?;
    // Of the open file: the path may refer to another one meanwhile.
    let len = file.metadata().map_err(unreadable)?.len();
    Bytes::snapshot(&file, len).map_err(unreadable)
}

/// Identity of a file, independent of its path: its device and inode number.
#[cfg(unix)]
pub(super) type Identity = (u64, u64);

/// Identity of a file: its path without links.
#[cfg(not(unix))]
pub(super) type Identity = std::path::PathBuf;

/// The identity of a file or folder.
pub(super) fn identity(path: &Path, metadata: &fs::Metadata) -> io::Result<Identity> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let _ = path;
        Ok((metadata.dev(), metadata.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        path.canonicalize()
    }
}
