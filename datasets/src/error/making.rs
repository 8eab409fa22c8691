//! Conversions of other errors, and checks.

use std::io;
use std::path::Path;

use crate::error::{DatasetError, SizeError};

impl DatasetError {
    /// The error of the operating system for a path.
    pub(crate) fn from_io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path, source },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { path, source }
            }
            _ => Self::Unreadable { path, source },
        }
    }

    /// A file of the wrong format.
    pub(crate) fn malformed(
        path: &Path,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            expected: expected.into(),
            found: found.to_string(),
        }
    }

    /// An error of the tokenizer library.
    pub(crate) fn tokenizer(problem: &'static str) -> impl FnOnce(tokenizers::Error) -> Self {
        move |error| Self::Tokenizer {
            problem,
            reason: error.to_string(),
        }
    }

    /// Checks that sequences have the requested length, which is not 0.
    pub(crate) fn check_length(window_length: usize, seq_length: usize) -> Result<(), Self> {
        if window_length == 0 {
            return Err(SizeError::ZeroWindowLength.into());
        }
        if window_length != seq_length {
            return Err(SizeError::OtherLength {
                window_length,
                seq_length,
            }
            .into());
        }
        Ok(())
    }
}

/// The way out of a number that is too large, unless it is 0, which is too small.
pub(crate) fn unless_zero(number: usize, way_out: &'static str) -> &'static str {
    match number {
        0 => "1 or more",
        _ => way_out,
    }
}

/// Returns an error for a setting that is not allowed.
pub(crate) fn check(
    allowed: bool,
    setting: &'static str,
    value: usize,
    limit: &'static str,
    way_out: &'static str,
) -> Result<(), DatasetError> {
    match allowed {
        true => Ok(()),
        false => Err(SizeError::Setting {
            setting,
            value,
            limit,
            way_out,
        }
        .into()),
    }
}
