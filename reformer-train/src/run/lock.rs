//! A lock that lets only one process at a time train a run.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

use crate::error::TrainError;

/// The file in a run's folder that is locked. It is not removed: that would let in two.
const FILE: &str = "lock";

/// The lock of a run, held until it is dropped. The operating system releases it when a
/// process is killed.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`TrainError::Locked`] if another process holds it, or a folder that cannot be written.
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
            // On file systems without locks, training continues without one.
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
