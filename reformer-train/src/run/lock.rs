//! One process at a time trains a run.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

use crate::error::TrainError;

/// The file in a run's folder that is locked. It stays there: to remove it would let in two.
const FILE: &str = "lock";

/// The right to train a run, for as long as this lives. The operating system takes it back from a
/// process that was killed.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes it.
    ///
    /// # Errors
    /// [`TrainError::Locked`] if another process has it, or a folder that cannot be written.
    pub(super) fn take(run: &Path) -> Result<Self, TrainError> {
        let path = run.join(FILE);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| TrainError::Write {
                path: path.clone(),
                source,
            })?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(TrainError::Locked {
                path: run.to_owned(),
            }),
            // There are file systems without locks, and they have to do without.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                Ok(Self { _file: file })
            }
            Err(TryLockError::Error(source)) => Err(TrainError::Write { path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_one_is_refused_until_the_first_one_ends() {
        let run = tempfile::tempdir().unwrap();
        let first = Lock::take(run.path()).unwrap();
        let error = Lock::take(run.path()).unwrap_err();
        assert!(matches!(error, TrainError::Locked { .. }), "{error}");
        drop(first);
        Lock::take(run.path()).unwrap();
    }
}
