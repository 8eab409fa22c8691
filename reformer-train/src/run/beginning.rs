//! `run.json`: the identity of a run and the data it began with.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use reformer_datasets::Fingerprint;
use serde::{Deserialize, Serialize};

use super::pretrained;
use crate::data::{DataConfig, OwnData};
use crate::error::TrainError;
use crate::record::{read_regular, without_mark, write_atomically};

const FILE: &str = "run.json";

/// The identity of a run and the data it began with.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Beginning {
    /// A random number that identifies the run's checkpoints.
    pub(super) id: Option<String>,
    /// The folder of the initial weights, if they were not random.
    #[serde(default)]
    pub(super) start_from: Option<PathBuf>,
    /// The file of the initial weights.
    #[serde(default)]
    weights: Option<DataFile>,
    data: Vec<DataFile>,
    /// A checksum of the first sequences, if the program makes them itself.
    #[serde(default)]
    own: Option<u32>,
}

/// A file or folder of data.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct DataFile {
    path: PathBuf,
    /// `None` if it cannot be read twice, like a pipe.
    fingerprint: Option<Fingerprint>,
}

impl Beginning {
    /// The record of a new run.
    pub(super) fn new(
        data: &DataConfig,
        own: Option<&OwnData>,
        start_from: Option<&Path>,
    ) -> Result<Self, TrainError> {
        let files: Result<Vec<_>, _> = data.paths().into_iter().map(DataFile::new).collect();
        // A folder without weights is reported when training begins.
        let weights = start_from.map(pretrained::weights_file);
        let weights = weights.filter(|path| path.exists());
        Ok(Self {
            id: Some(format!("{:016x}", rand::random::<u64>())),
            start_from: start_from.map(Path::to_owned),
            weights: weights.as_deref().map(DataFile::new).transpose()?,
            data: files?,
            own: own.map(OwnData::checksum),
        })
    }

    /// Whether a folder has such a record, which may be damaged.
    pub(super) fn is_in(folder: &Path) -> bool {
        folder.join(FILE).is_file()
    }

    /// Reads the record in the folder of a run; runs of older versions have none.
    pub(super) fn of_run(folder: &Path) -> Result<Self, TrainError> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        let bytes = read_regular(&path).map_err(|source| TrainError::Read {
            path: path.clone(),
            source,
        })?;
        serde_json::from_slice(without_mark(&bytes)).map_err(|error| TrainError::Damaged {
            path,
            reason: error.to_string(),
        })
    }

    /// Writes it into a folder.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        write_atomically(&folder.join(FILE), |file| file.write_all(json.as_bytes()))
    }

    /// Checks that the data has not changed.
    ///
    /// # Errors
    /// [`TrainError::DataChanged`].
    pub(super) fn check_data(&self, own: Option<&OwnData>) -> Result<(), TrainError> {
        if self.own.is_some() && own.map(OwnData::checksum) != self.own {
            return Err(TrainError::DataChanged {
                path: "the program's own data".into(),
                then: "some sequences".to_owned(),
                now: "others".to_owned(),
            });
        }
        self.data.iter().try_for_each(DataFile::check)
    }

    /// Checks that the initial weights have not changed.
    ///
    /// # Errors
    /// [`TrainError::DataChanged`].
    pub(super) fn check_weights(&self) -> Result<(), TrainError> {
        self.weights.iter().try_for_each(DataFile::check)
    }
}

impl DataFile {
    fn new(path: &Path) -> Result<Self, TrainError> {
        Ok(Self {
            path: path.to_owned(),
            fingerprint: Fingerprint::of(path)?,
        })
    }

    fn check(&self) -> Result<(), TrainError> {
        let Some(then) = &self.fingerprint else {
            return Ok(());
        };
        let now = Fingerprint::of(&self.path)?;
        if now.as_ref() == Some(then) {
            return Ok(());
        }
        let bytes = |bytes: u64| format!("{bytes} bytes");
        let now = match now {
            Some(now) if now.bytes == then.bytes => "as many others".to_owned(),
            Some(now) => bytes(now.bytes),
            None => "a pipe".to_owned(),
        };
        Err(TrainError::DataChanged {
            path: self.path.clone(),
            then: bytes(then.bytes),
            now,
        })
    }
}
