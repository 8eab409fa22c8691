//! The weight files of a folder: a single file, or several files (shards) with an index.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use burn_store::pytorch::PytorchReader;
use burn_store::{ModuleStore, SafetensorsStore, TensorSnapshot};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::HuggingFaceError;
use super::tensors::Entry;
use super::{damaged, io, pytorch};

/// Maximum size of a configuration or an index in bytes.
const MAX_JSON: u64 = 64 << 20;
/// What some editors put before a text, and is no part of JSON.
const BYTE_ORDER_MARK: char = '\u{feff}';
/// Maximum size of a safetensors header in bytes, as defined by the format.
const MAX_HEADER: u64 = 100_000_000;

/// Maximum number of additional tensors in a file that are listed in an error.
const MAX_STRANGERS: usize = 1000;

/// A file format of weights.
#[derive(Debug, Clone, Copy)]
enum Format {
    Safetensors,
    Pytorch,
}

impl Format {
    /// In the order of the search.
    const FILES: [(&'static str, Self); 2] = [
        ("model.safetensors", Self::Safetensors),
        ("pytorch_model.bin", Self::Pytorch),
    ];

    /// The names of a file's tensors, without other data of each: there can be a million.
    fn names(self, path: &Path) -> Result<BTreeSet<String>, HuggingFaceError> {
        match self {
            Self::Safetensors => header_names(path),
            Self::Pytorch => Ok(self.read(path)?.into_keys().collect()),
        }
    }

    /// A file's tensors, whose values are loaded lazily.
    fn read(self, path: &Path) -> Result<BTreeMap<String, TensorSnapshot>, HuggingFaceError> {
        match self {
            Self::Safetensors => {
                let mut store = SafetensorsStore::from_file(path);
                let tensors = store.get_all_snapshots().map_err(|e| damaged(path, e))?;
                Ok(tensors.clone())
            }
            Self::Pytorch => {
                pytorch::check(path).map_err(|reason| damaged(path, reason))?;
                let reader = PytorchReader::new(path).map_err(|e| damaged(path, e))?;
                Ok(reader.into_tensors().into_iter().collect())
            }
        }
    }
}

/// Maps tensors to files.
#[derive(Debug, Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The weights of a folder.
#[derive(Debug)]
pub(super) struct Weights {
    /// The file, or the index of several files.
    pub(super) path: PathBuf,
    format: Format,
    /// The files, each with the names of its tensors.
    files: BTreeMap<PathBuf, BTreeSet<String>>,
}

impl Weights {
    /// Finds the file or the index of shards, and reads the names of the tensors.
    pub(super) fn open(folder: &Path) -> Result<Self, HuggingFaceError> {
        for (name, format) in Format::FILES {
            let path = folder.join(name);
            if path.exists() {
                check_file(&path)?;
                let files = [(path.clone(), format.names(&path)?)].into();
                return Ok(Self {
                    path,
                    format,
                    files,
                });
            }
            let path = folder.join(format!("{name}.index.json"));
            if path.exists() {
                let files = indexed(folder, &path)?;
                return Ok(Self {
                    path,
                    format,
                    files,
                });
            }
        }
        Err(HuggingFaceError::NoWeights {
            folder: folder.to_path_buf(),
        })
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.files.values().flatten()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.files.values().any(|names| names.contains(name))
    }

    /// All tensors except `unused` ones. Returns an error without reading any if there are far more
    /// than the model has.
    pub(super) fn read(
        &self,
        entries: &[Entry],
        unused: &[&str],
    ) -> Result<BTreeMap<String, TensorSnapshot>, HuggingFaceError> {
        let wanted: BTreeSet<&str> = entries.iter().map(|entry| entry.theirs.as_str()).collect();
        if self.names().count() > 2 * wanted.len() + MAX_STRANGERS {
            let is_unknown = |name: &&String| !wanted.contains(name.as_str());
            let is_missing = |name: &&str| !self.contains(name);
            return Err(HuggingFaceError::Tensors {
                path: self.path.clone(),
                missing: wanted
                    .iter()
                    .copied()
                    .filter(is_missing)
                    .map(str::to_owned)
                    .collect(),
                unknown: self.names().filter(is_unknown).cloned().collect(),
                shapes: vec![],
                types: vec![],
            });
        }
        let mut found = BTreeMap::new();
        for (path, names) in &self.files {
            let mut tensors = self.format.read(path)?;
            // Tensors of a shard that the index does not assign to it are ignored.
            tensors.retain(|name, _| names.contains(name) && !unused.contains(&name.as_str()));
            found.extend(tensors);
        }
        Ok(found)
    }
}

/// The files listed in an index, which must be in the same folder.
fn indexed(
    folder: &Path,
    path: &Path,
) -> Result<BTreeMap<PathBuf, BTreeSet<String>>, HuggingFaceError> {
    let text = read_json(path)?;
    let index: Index = serde_json::from_str(&text).map_err(|e| damaged(path, e))?;
    let mut files = BTreeMap::<PathBuf, BTreeSet<String>>::new();
    for (tensor, file) in index.weight_map {
        let is_beside = matches!(
            Path::new(&file).components().collect::<Vec<_>>()[..],
            [Component::Normal(_)]
        );
        if !is_beside {
            let reason = format!("it names `{file}`, which is not a file in the same folder");
            return Err(damaged(path, reason));
        }
        files.entry(folder.join(file)).or_default().insert(tensor);
    }
    for file in files.keys() {
        check_file(file)?;
    }
    Ok(files)
}

/// The names in the header of a safetensors file.
fn header_names(path: &Path) -> Result<BTreeSet<String>, HuggingFaceError> {
    let mut file = File::open(path).map_err(io(path))?;
    let mut length = [0; 8];
    file.read_exact(&mut length)
        .map_err(|_| damaged(path, "it ends before its header"))?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        let reason = format!("its header has {length} bytes, of at most {MAX_HEADER}");
        return Err(damaged(path, reason));
    }
    let mut header = Vec::new();
    file.take(length)
        .read_to_end(&mut header)
        .map_err(io(path))?;
    let names: HashMap<String, IgnoredAny> =
        serde_json::from_slice(&header).map_err(|e| damaged(path, e))?;
    let mut names: BTreeSet<String> = names.into_keys().collect();
    names.remove("__metadata__");
    Ok(names)
}

/// Refuses missing paths and those that are not regular files: reading a pipe would block.
fn check_file(path: &Path) -> Result<u64, HuggingFaceError> {
    let metadata = fs::metadata(path).map_err(io(path))?;
    match metadata.is_file() {
        true => Ok(metadata.len()),
        false => Err(damaged(path, "it is not a regular file")),
    }
}

/// The text of a small file.
pub(super) fn read_json(path: &Path) -> Result<String, HuggingFaceError> {
    let length = check_file(path)?;
    if length > MAX_JSON {
        let reason = format!("it has {length} bytes, of at most {MAX_JSON}");
        return Err(damaged(path, reason));
    }
    let mut text = fs::read_to_string(path).map_err(io(path))?;
    if text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len_utf8());
    }
    Ok(text)
}
