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
    #[error("settings without a counterpart: {}", settings.join("; "))]
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
        list(missing, unknown, shapes)
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
    },
}

fn list(
    missing: &[String],
    unknown: &[String],
    shapes: &[(String, Vec<usize>, Vec<usize>)],
) -> String {
    let mut parts = Vec::new();
    if !missing.is_empty() {
        parts.push(format!("missing {}", missing.join(", ")));
    }
    if !unknown.is_empty() {
        parts.push(format!("unknown {}", unknown.join(", ")));
    }
    for (name, expected, found) in shapes {
        parts.push(format!(
            "{name} has shape {found:?} instead of {expected:?}"
        ));
    }
    parts.join("; ")
}
