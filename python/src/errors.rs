//! Errors of the crates below as Python exceptions.

use std::error::Error;
use std::io;
use std::iter::successors;

use pyo3::PyErr;
use pyo3::exceptions::{PyMemoryError, PyValueError};
use reformer_core::huggingface::HuggingFaceError;
use reformer_train::TrainError;

/// The exception for an error: an `OSError` where a file is missing or cannot be read, else a `ValueError`. Its
/// message is one line, with the causes that the error itself does not quote.
pub(crate) fn exception(error: impl Error + 'static) -> PyErr {
    let mut message = error.to_string();
    let mut of_system = None;
    for cause in successors(error.source(), |&cause| cause.source()) {
        let text = cause.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        of_system = of_system.or(cause.downcast_ref::<io::Error>().map(io::Error::kind));
    }
    let message = message.replace(char::is_control, " ");
    match of_system.or(kind_of(&error)) {
        Some(kind) => io::Error::new(kind, message).into(),
        None => PyValueError::new_err(message),
    }
}

/// The kind of system error that an error without a cause stands for.
fn kind_of(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let of_hugging_face = error.downcast_ref::<HuggingFaceError>();
    match (error.downcast_ref::<TrainError>(), of_hugging_face) {
        (Some(TrainError::NoRun { kind, .. }), _) => Some(*kind),
        (Some(TrainError::NoWeights { .. }), _) | (_, Some(HuggingFaceError::NoWeights { .. })) => {
            Some(io::ErrorKind::NotFound)
        }
        _ => None,
    }
}

/// Asks the system whether it has this much memory at all. Rust ends the process where an allocation fails.
///
/// # Errors
/// A `MemoryError`.
pub(crate) fn reserve(n_floats: usize) -> Result<(), PyErr> {
    let refused = |_| {
        let mebibytes = n_floats.saturating_mul(size_of::<f32>()) >> 20;
        PyMemoryError::new_err(format!(
            "this takes about {mebibytes} MiB, which the system refuses: use less at a time"
        ))
    };
    Vec::<f32>::new()
        .try_reserve_exact(n_floats)
        .map_err(refused)
}
