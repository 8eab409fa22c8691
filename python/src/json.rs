//! Settings between Rust and Python, by way of JSON.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use reformer_core::burn::config::Config;
use serde_json::Value;

/// A configuration as a dict.
pub(crate) fn to_python<'py>(py: Python<'py>, config: &impl Config) -> PyResult<Bound<'py, PyAny>> {
    let json = serde_json::to_string(config).map_err(refused)?;
    py.import("json")?.call_method1("loads", (json,))
}

/// A setting of JSON's types.
///
/// # Errors
/// A `TypeError` for other types, and a `ValueError` for numbers that are not finite.
pub(crate) fn from_python(given: &Bound<'_, PyAny>) -> PyResult<Value> {
    let json: String = given
        .py()
        .import("json")?
        .call_method1("dumps", (given,))?
        .extract()?;
    serde_json::from_str(&json).map_err(refused)
}

fn refused(error: serde_json::Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}
