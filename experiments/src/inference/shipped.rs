//! The model that ships: a small one, trained on the sample, to try programs at once.

use std::path::{Path, PathBuf};
use std::{fmt, fs};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// `models/shakespeare`; its README tells how it was made.
const FILES: [(&str, &[u8]); 2] = [
    (
        "config.json",
        include_bytes!("../../models/shakespeare/config.json"),
    ),
    (
        "model.mpk",
        include_bytes!("../../models/shakespeare/model.mpk"),
    ),
];

/// The folder of a trained model.
#[derive(Debug)]
pub(crate) enum Checkpoint {
    /// The given folder.
    Named(PathBuf),
    /// A temporary folder with the model that ships, which is removed with this value.
    Shipped(TempDir),
}

impl Checkpoint {
    /// The given folder, or else the model that ships.
    pub(crate) fn open(named: Option<&Path>) -> Result<Self> {
        if let Some(path) = named {
            return Ok(Self::Named(path.to_owned()));
        }
        eprintln!("No --checkpoint is given: using the model that ships, trained on Shakespeare.");
        let write = || {
            let folder = TempDir::with_prefix("reformer-")?;
            for (name, bytes) in FILES {
                fs::write(folder.path().join(name), bytes)?;
            }
            std::io::Result::Ok(folder)
        };
        let folder = write().context(
            "the model that ships cannot be unpacked into the folder for temporary files (TMPDIR): set another \
             one, or give --checkpoint",
        )?;
        Ok(Self::Shipped(folder))
    }

    /// The path, valid until this is dropped. Drop it once the model is read: a program that is killed
    /// leaves the folder behind.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Named(path) => path,
            Self::Shipped(folder) => folder.path(),
        }
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(path) => path.display().fmt(f),
            Self::Shipped(_) => f.write_str("the model that ships"),
        }
    }
}
