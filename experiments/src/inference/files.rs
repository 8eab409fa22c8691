//! The files of a trained model, which no output may replace.

use std::path::{Path, PathBuf};

/// Files and folders of a run, and files of a model of Hugging Face, that programs read.
const READ: [&str; 13] = [
    "config.json",
    "run.json",
    "metrics.csv",
    "samples.jsonl",
    "model.mpk",
    "checkpoint",
    "lock",
    "classes.json",
    "subwords.json",
    "tokenizer.json",
    "spiece.model",
    "model.safetensors",
    "pytorch_model.bin",
];

/// What programs read in the folder of a run or of a model of Hugging Face. Other files in it are results, such as
/// reports.
pub(crate) fn model_files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    READ.iter().map(move |name| folder.join(name))
}
