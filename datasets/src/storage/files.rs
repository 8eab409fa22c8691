//! Opening files and folders, with errors that name them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::DatasetError;
use crate::storage::Bytes;

/// Opens a file to read it.
pub(crate) fn open_file(path: &Path) -> Result<File, DatasetError> {
    // Asked first, because what reading a directory answers depends on the system.
    if path.is_dir() {
        return Err(DatasetError::Directory {
            path: path.to_owned(),
        });
    }
    File::open(path).map_err(|source| DatasetError::from_io(path, source))
}

/// Maps a file.
pub(crate) fn map_file(path: &Path) -> Result<Bytes, DatasetError> {
    Bytes::map(&open_file(path)?).map_err(|source| DatasetError::from_io(path, source))
}

/// All files in a folder and the folders in it, in the order of their paths.
///
/// What starts with a dot is left out. Paths are compared folder by folder and byte by byte, so the order is the same
/// everywhere.
pub(crate) fn walk(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        for entry in entries.map_err(|source| DatasetError::from_io(&folder, source))? {
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walk_is_sorted_and_leaves_hidden_files_out() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let inside = |name: &str| folder.path().join(name);
        fs::create_dir_all(inside("b/c"))?;
        fs::create_dir(inside(".git"))?;
        for name in ["z", "b/x", "b/c/y", "a", ".hidden", ".git/config"] {
            fs::write(inside(name), name)?;
        }
        let expected = ["a", "b/c/y", "b/x", "z"].map(inside);
        assert_eq!(walk(folder.path())?, expected);
        Ok(())
    }
}
