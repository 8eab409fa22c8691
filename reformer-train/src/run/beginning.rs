//! `run.json`: what a run began with.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use reformer_datasets::Fingerprint;
use serde::{Deserialize, Serialize};

use crate::data::DataConfig;
use crate::error::TrainError;
use crate::record::{read_regular, write_atomically};

const FILE: &str = "run.json";

/// What a run began with.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Beginning {
    /// A random number, by which the run's checkpoints are known.
    pub(super) id: Option<String>,
    /// The folder whose weights it started from, if they were not drawn.
    #[serde(default)]
    pub(super) start_from: Option<PathBuf>,
    data: Vec<DataFile>,
}

/// A file or folder of data.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct DataFile {
    path: PathBuf,
    /// None of what cannot be read twice, as a pipe.
    fingerprint: Option<Fingerprint>,
}

impl Beginning {
    /// That of a new run.
    pub(super) fn new(data: &DataConfig, start_from: Option<&Path>) -> Result<Self, TrainError> {
        let file = |path: &Path| -> Result<DataFile, TrainError> {
            Ok(DataFile {
                path: path.to_owned(),
                fingerprint: Fingerprint::of(path)?,
            })
        };
        let files: Result<Vec<_>, _> = data.paths().into_iter().map(file).collect();
        Ok(Self {
            id: Some(format!("{:016x}", rand::random::<u64>())),
            start_from: start_from.map(Path::to_owned),
            data: files?,
        })
    }

    /// That of the run in a folder; runs of older versions have none.
    pub(super) fn of_run(folder: &Path) -> Result<Self, TrainError> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        let bytes = read_regular(&path).map_err(|source| TrainError::Read {
            path: path.clone(),
            source,
        })?;
        serde_json::from_slice(&bytes).map_err(|source| TrainError::BadConfig { path, source })
    }

    /// Writes it into a folder.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        write_atomically(&folder.join(FILE), |file| file.write_all(json.as_bytes()))
    }

    /// Checks that the data is what it was.
    ///
    /// # Errors
    /// [`TrainError::DataChanged`].
    pub(super) fn check_data(&self) -> Result<(), TrainError> {
        for DataFile {
            path,
            fingerprint: then,
        } in &self.data
        {
            let Some(then) = then else { continue };
            let now = Fingerprint::of(path)?;
            if now.as_ref() != Some(then) {
                let bytes = |bytes: u64| format!("{bytes} bytes");
                let now = match now {
                    Some(now) if now.bytes == then.bytes => "as many others".to_owned(),
                    Some(now) => bytes(now.bytes),
                    None => "a pipe".to_owned(),
                };
                return Err(TrainError::DataChanged {
                    path: path.clone(),
                    then: bytes(then.bytes),
                    now,
                });
            }
        }
        Ok(())
    }
}
