//! What can be wrong with a Hugging Face folder.

use std::path::PathBuf;

use thiserror::Error;

use crate::error::ConfigError;

/// Why a Hugging Face folder cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HfError {
    /// A file is missing or cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// There are no weights in the folder.
    #[error("{folder} has neither model.safetensors nor pytorch_model.bin")]
    NoWeights {
        /// The folder.
        folder: PathBuf,
    },
    /// A file is there already.
    #[error("{path} exists: choose another folder, nothing was written")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The configuration is not JSON, or a setting has the wrong type.
    #[error("{path} is not the configuration of a Reformer: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Settings that the other side does not have.
    #[error("settings without a counterpart: {}", few(settings, "; "))]
    Unsupported {
        /// Each with its value and the reason.
        settings: Vec<String>,
    },
    /// Settings that cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights are not in the format that the file's name promises, or end early.
    #[error("{path} is damaged or no checkpoint: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the reader says.
        reason: String,
    },
    /// The weights are not those of the configured model.
    #[error(
        "{path} does not fit its config.json: {}",
        list(missing, unknown, shapes, types)
    )]
    Tensors {
        /// The file.
        path: PathBuf,
        /// Tensors that the model needs and the file does not have.
        missing: Vec<String>,
        /// Tensors that the file has and the model does not need.
        unknown: Vec<String>,
        /// Tensors of another shape: name, expected and found.
        shapes: Vec<(String, Vec<usize>, Vec<usize>)>,
        /// Tensors that hold no floating-point numbers: name and type.
        types: Vec<(String, String)>,
    },
}

/// Names that a message shows of many.
const FEW: usize = 8;

/// The first of some names, and how many there are beside.
fn few(names: &[String], separator: &str) -> String {
    let shown = names.iter().take(FEW).map(|name| super::one_line(name));
    let mut text = shown.collect::<Vec<_>>().join(separator);
    if let Some(n_others @ 1..) = names.len().checked_sub(FEW) {
        text.push_str(&format!("{separator}and {n_others} others"));
    }
    text
}

fn list(
    missing: &[String],
    unknown: &[String],
    shapes: &[(String, Vec<usize>, Vec<usize>)],
    types: &[(String, String)],
) -> String {
    let mut parts = Vec::new();
    if !missing.is_empty() {
        parts.push(format!("missing {}", few(missing, ", ")));
    }
    if !unknown.is_empty() {
        parts.push(format!("unknown {}", few(unknown, ", ")));
    }
    let shapes = shapes.iter().map(|(name, expected, found)| {
        format!("{name} has shape {found:?} instead of {expected:?}")
    });
    let types = types
        .iter()
        .map(|(name, found)| format!("{name} holds {found} and no floating-point numbers"));
    let wrong: Vec<String> = shapes.chain(types).collect();
    if !wrong.is_empty() {
        parts.push(few(&wrong, "; "));
    }
    parts.join("; ")
}
