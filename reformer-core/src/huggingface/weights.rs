//! Where the weights of a folder are: in one file, or shared out among several by an index.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use burn_store::pytorch::PytorchReader;
use burn_store::{ModuleStore, SafetensorsStore, TensorSnapshot};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::HfError;
use super::tensors::Entry;
use super::{damaged, io, pytorch};

/// Bytes of a configuration or an index.
const MAX_JSON: u64 = 64 << 20;
/// Bytes of the header of a file of safetensors, as the format has it.
const MAX_HEADER: u64 = 100_000_000;

/// Tensors that a file may have beside those of a model, to be named with what else is wrong.
const MAX_STRANGERS: usize = 1000;

/// A format that weights are written in.
#[derive(Debug, Clone, Copy)]
enum Format {
    Safetensors,
    Pytorch,
}

impl Format {
    /// In the order in which they are looked for.
    const FILES: [(&'static str, Self); 2] = [
        ("model.safetensors", Self::Safetensors),
        ("pytorch_model.bin", Self::Pytorch),
    ];

    /// The names of a file's tensors, without making anything of each: there can be a million.
    fn names(self, path: &Path) -> Result<BTreeSet<String>, HfError> {
        match self {
            Self::Safetensors => header_names(path),
            Self::Pytorch => Ok(self.read(path)?.into_keys().collect()),
        }
    }

    /// A file's tensors, whose numbers are not read yet.
    fn read(self, path: &Path) -> Result<BTreeMap<String, TensorSnapshot>, HfError> {
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

/// Which tensors are in which file.
#[derive(Debug, Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The weights of a folder.
#[derive(Debug)]
pub(super) struct Weights {
    /// The file, or the index of several.
    pub(super) path: PathBuf,
    format: Format,
    /// The files, each with the names of its tensors.
    files: BTreeMap<PathBuf, BTreeSet<String>>,
}

impl Weights {
    /// Finds them, whole or shared out, and reads which tensors there are.
    pub(super) fn open(folder: &Path) -> Result<Self, HfError> {
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
        Err(HfError::NoWeights {
            folder: folder.to_path_buf(),
        })
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.files.values().flatten()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.files.values().any(|names| names.contains(name))
    }

    /// All tensors but those that may be there without being needed. Where there are far more than a
    /// model has, nothing is made of them.
    pub(super) fn read(
        &self,
        entries: &[Entry],
        unused: &[&str],
    ) -> Result<BTreeMap<String, TensorSnapshot>, HfError> {
        let wanted: BTreeSet<&str> = entries.iter().map(|entry| entry.theirs.as_str()).collect();
        if self.names().count() > 2 * wanted.len() + MAX_STRANGERS {
            let is_unknown = |name: &&String| !wanted.contains(name.as_str());
            let is_missing = |name: &&str| !self.contains(name);
            return Err(HfError::Tensors {
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
            // Others in a shard are not what the index means.
            tensors.retain(|name, _| names.contains(name) && !unused.contains(&name.as_str()));
            found.extend(tensors);
        }
        Ok(found)
    }
}

/// The files that an index names, which must lie beside it.
fn indexed(folder: &Path, path: &Path) -> Result<BTreeMap<PathBuf, BTreeSet<String>>, HfError> {
    let text = read_json(path)?;
    let index: Index = serde_json::from_str(&text).map_err(|e| damaged(path, e))?;
    let mut files = BTreeMap::<PathBuf, BTreeSet<String>>::new();
    for (tensor, file) in index.weight_map {
        let is_beside = matches!(
            Path::new(&file).components().collect::<Vec<_>>()[..],
            [Component::Normal(_)]
        );
        if !is_beside {
            let reason = format!("it names `{file}`, which is no file beside it");
            return Err(damaged(path, reason));
        }
        files.entry(folder.join(file)).or_default().insert(tensor);
    }
    for file in files.keys() {
        check_file(file)?;
    }
    Ok(files)
}

/// The names in the header of a file of safetensors.
fn header_names(path: &Path) -> Result<BTreeSet<String>, HfError> {
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

/// Refuses what is missing, and what is no file: a pipe would be waited for.
fn check_file(path: &Path) -> Result<u64, HfError> {
    let metadata = fs::metadata(path).map_err(io(path))?;
    match metadata.is_file() {
        true => Ok(metadata.len()),
        false => Err(damaged(path, "it is no file")),
    }
}

/// The text of a small file.
pub(super) fn read_json(path: &Path) -> Result<String, HfError> {
    let length = check_file(path)?;
    if length > MAX_JSON {
        let reason = format!("it has {length} bytes, of at most {MAX_JSON}");
        return Err(damaged(path, reason));
    }
    fs::read_to_string(path).map_err(io(path))
}
