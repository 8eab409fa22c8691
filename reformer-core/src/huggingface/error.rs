//! Errors of reading and writing a Hugging Face folder.

use std::path::PathBuf;

use thiserror::Error;

use crate::error::ConfigError;

/// Why a Hugging Face folder cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HuggingFaceError {
    /// A file is missing or cannot be read or written.
    #[error("`{path}`: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The folder has no file of weights.
    #[error("`{folder}` has neither model.safetensors nor pytorch_model.bin")]
    NoWeights {
        /// The folder.
        folder: PathBuf,
    },
    /// A file exists already.
    #[error("`{path}` exists: choose another folder, nothing was written")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The configuration is not JSON, or a setting has the wrong type.
    #[error("`{path}` is not the configuration of a Reformer: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// The error of the JSON parser.
        source: serde_json::Error,
    },
    /// Settings that the other format does not have.
    #[error("settings without a counterpart: {}", few(settings, "; "))]
    Unsupported {
        /// Each setting with its value and the reason.
        settings: Vec<String>,
    },
    /// Settings that cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights do not have the format of the file's name, or are truncated.
    #[error("`{path}` is damaged or is not a checkpoint: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The weights do not match the configured model.
    #[error(
        "`{path}` does not fit its config.json: {}",
        list(missing, unknown, shapes, types)
    )]
    Tensors {
        /// The file.
        path: PathBuf,
        /// Tensors of the model that the file does not have.
        missing: Vec<String>,
        /// Tensors of the file that the model does not have.
        unknown: Vec<String>,
        /// Tensors of the wrong shape: name, expected and found shape.
        shapes: Vec<(String, Vec<usize>, Vec<usize>)>,
        /// Tensors that are not floating-point: name and type.
        types: Vec<(String, String)>,
    },
}

/// Maximum number of names in a message.
const FEW: usize = 8;

/// The first few names, and the number of the others.
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
        .map(|(name, found)| format!("{name} holds {found}, not floating-point numbers"));
    let wrong: Vec<String> = shapes.chain(types).collect();
    if !wrong.is_empty() {
        parts.push(few(&wrong, "; "));
    }
    parts.join("; ")
}
