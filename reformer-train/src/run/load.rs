//! Reading and creating the files of a run's folder.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleDisplay};
use burn::tensor::backend::Backend;
use burn_store::{ModuleSnapshot, TensorSnapshot};

use super::Run;
use super::beginning::Beginning;
use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::record::{AtomicRecorder, Owner, read_regular, write_atomically};
use crate::run::checkpoint::Checkpoints;
use crate::task::Task;
use crate::task::model::{Model, ModelConfig};

/// The file of a run's configuration.
pub(super) const CONFIG: &str = "config.json";

pub(super) fn model_path(folder: &Path) -> PathBuf {
    folder.join("model")
}

pub(super) fn read_config(folder: &Path) -> Result<TrainConfig, TrainError> {
    let path = folder.join(CONFIG);
    let text = read_regular(&path).map_err(|source| match is_absent(&source) {
        true => no_run(folder, source.kind()),
        false => TrainError::Read {
            path: path.clone(),
            source,
        },
    })?;
    TrainConfig::from_json(&text).map_err(|source| TrainError::BadConfig { path, source })
}

/// Whether nothing has the name of a file.
fn is_absent(error: &io::Error) -> bool {
    let kind = error.kind();
    kind == io::ErrorKind::NotFound || kind == io::ErrorKind::NotADirectory
}

/// The error of a path without config.json.
fn no_run(path: &Path, kind: io::ErrorKind) -> TrainError {
    let reason = match (path.exists(), path.is_dir()) {
        (false, _) => "there is no such folder: name another, or start a new run",
        (true, false) => "it is a file: name the folder that it is in, or another",
        (true, true) => {
            "it has no config.json: name another, or move it away and start a new run with its name"
        }
    };
    TrainError::NoRun {
        path: path.to_owned(),
        reason,
        kind,
    }
}

/// Whether a folder is that of a run, even of a damaged one: `run.json` is there, its `config.json` can be read as
/// that of a run, or it has a complete checkpoint. A `config.json` of another program is none.
fn is_run(folder: &Path) -> bool {
    Beginning::is_in(folder)
        || !Checkpoints::of_run(folder).complete().is_empty()
        || read_config(folder).is_ok()
}

/// Checks that a new run can have this path: nothing is there, or an empty folder, and not among the checkpoints of
/// another run.
pub(super) fn check_new_folder(path: &Path) -> Result<(), TrainError> {
    if let Some(run) = Run::folder_of_checkpoint(path) {
        let path = path.to_owned();
        return Err(TrainError::AmongCheckpoints { path, run });
    }
    let path = path.to_owned();
    let is_link = path.is_symlink();
    let is_taken = is_link || path.exists();
    match fs::read_dir(&path).map(|mut entries| entries.next().is_none()) {
        Ok(true) if !is_link => Ok(()),
        Ok(false) if path.join(CONFIG).exists() => Err(TrainError::RunExists { path }),
        Err(source) if source.kind() == io::ErrorKind::NotFound && !is_link => Ok(()),
        // A folder that cannot be read, or a path below a file.
        Err(source) if !is_absent(&source) || !is_taken => Err(TrainError::Write { path, source }),
        _ => Err(TrainError::FolderTaken { path }),
    }
}

/// Loads the model of a run, finished or not, and its configuration: the final weights if there
/// are any, else those of the newest complete checkpoint.
///
/// # Errors
/// A folder that does not contain a run, no weights, or weights that cannot be read or are not finite.
pub fn load_model<B: Backend>(
    folder: &Path,
    device: &B::Device,
) -> Result<(Model<B>, TrainConfig), TrainError> {
    load_as(folder, device, |config| Model::of_library(config, device))
}

/// The same for any model, which a function initialises.
pub(super) fn load_as<B: Backend, M: Module<B> + ModuleDisplay>(
    folder: &Path,
    device: &B::Device,
    init: impl FnOnce(&ModelConfig) -> Result<M, TrainError>,
) -> Result<(M, TrainConfig), TrainError> {
    let config = read_config(folder)?;
    config.validate()?;
    config.model.precision().check::<B>(device)?;
    let model = init(&config.model)?;
    let model = weights(folder, &config, model, device)?;
    check_finite(folder, &model)?;
    Ok((model, config))
}

/// Checks that all weights of a model, which was read from `folder`, are finite.
///
/// # Errors
/// [`TrainError::NotFinite`] with the first tensor that has others.
pub fn check_finite<B: Backend, M: Module<B>>(folder: &Path, model: &M) -> Result<(), TrainError> {
    let is_finite = |tensor: &TensorSnapshot| {
        tensor.to_data().is_ok_and(|data| match data.as_slice() {
            Ok(weights) => weights.iter().copied().all(f32::is_finite),
            // In half precision.
            Err(_) => data.iter::<f32>().all(f32::is_finite),
        })
    };
    let tensors = model.collect(None, None, true);
    match tensors.iter().find(|tensor| !is_finite(tensor)) {
        None => Ok(()),
        Some(tensor) => Err(TrainError::NotFinite {
            path: folder.to_owned(),
            tensor: tensor.full_path(),
        }),
    }
}

fn weights<B: Backend, M: Module<B> + ModuleDisplay>(
    folder: &Path,
    config: &TrainConfig,
    model: M,
    device: &B::Device,
) -> Result<M, TrainError> {
    let owner = Owner::new(Beginning::of_run(folder)?.id, &config.model);
    match newest_checkpoint(folder) {
        Some(step) => {
            let task = Task::new(model, config.seed);
            let path = Checkpoints::of_run(folder).model(step);
            Ok(AtomicRecorder::load_module(&path, task, &owner, device)?.model)
        }
        None if !AtomicRecorder::file(model_path(folder)).exists() => Err(TrainError::NoWeights {
            path: folder.to_owned(),
        }),
        None => AtomicRecorder::load_module(&model_path(folder), model, &owner, device),
    }
}

/// The step of the checkpoint that holds the weights of a run, if it has no final ones.
fn newest_checkpoint(folder: &Path) -> Option<usize> {
    match AtomicRecorder::file(model_path(folder)).exists() {
        true => None,
        false => Checkpoints::of_run(folder).complete().first().copied(),
    }
}

/// The file of the weights of a run.
pub(super) fn weights_file(folder: &Path) -> PathBuf {
    AtomicRecorder::file(match newest_checkpoint(folder) {
        Some(step) => Checkpoints::of_run(folder).model(step),
        None => model_path(folder),
    })
}

impl Run {
    /// The folder of the run, even of a damaged one, whose checkpoints have a path for their folder or in it, in spite of
    /// links. The path does not have to exist.
    pub fn folder_of_checkpoint(path: &Path) -> Option<PathBuf> {
        let path = std::path::absolute(path).ok()?;
        // Of a path that does not exist, the part that does.
        let path = path.ancestors().find_map(|there| {
            let rest = path.strip_prefix(there).ok()?;
            Some(there.canonicalize().ok()?.join(rest))
        })?;
        let mut folders = path.ancestors();
        let run =
            folders.find(|folder| Checkpoints::of_run(folder).contain(&path) && is_run(folder));
        run.map(Path::to_owned)
    }

    /// Creates the folder under another name, fills it and renames it.
    pub(super) fn make_folder(&self) -> Result<(), TrainError> {
        let mut name = OsString::from(".");
        name.push(self.folder.file_name().unwrap_or_default());
        name.push(format!(".{}.partial", std::process::id()));
        let partial = self.folder.with_file_name(name);
        let failed = |source: io::Error| TrainError::Write {
            path: self.folder.clone(),
            source,
        };
        let fill = || -> Result<(), TrainError> {
            if let Some(parent) = self.folder.parent() {
                fs::create_dir_all(parent).map_err(failed)?;
            }
            // Left by a killed process with the same ID.
            fs::remove_dir_all(&partial).ok();
            fs::create_dir(&partial).map_err(failed)?;
            let json = serde_json::to_string_pretty(&self.config).map_err(|e| failed(e.into()))?;
            write_atomically(&partial.join(CONFIG), |file| {
                file.write_all(json.as_bytes())
            })
            .map_err(failed)?;
            self.beginning.write(&partial).map_err(failed)?;
            self.data.save_names(&partial)?;
            // An empty folder may be there, which not every system replaces. One that is not empty stays.
            fs::remove_dir(&self.folder).ok();
            fs::rename(&partial, &self.folder).map_err(|error| match error.kind() {
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory => {
                    let taken = check_new_folder(&self.folder).err();
                    taken.unwrap_or_else(|| failed(error))
                }
                _ => failed(error),
            })
        };
        fill().inspect_err(|_| {
            fs::remove_dir_all(&partial).ok();
        })
    }
}
