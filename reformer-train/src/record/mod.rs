//! Files that are either complete or absent.

mod files;
mod fit;
mod json;
mod owner;
mod scan;
mod setting;
mod tag;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::Module;
use burn::record::{FileRecorder, FullPrecisionSettings, Recorder, RecorderError};
use burn::tensor::backend::Backend;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::TrainError;
use scan::Found;
use tag::{Tag, sum_of_content, verify, write_tagged};

pub use files::read_regular;
pub(crate) use files::{append_line, open_regular};
pub(crate) use fit::numbered;
pub use json::{parse_settings, without_mark};
pub(crate) use owner::{Difference, Owner, differences};
pub(crate) use reformer_core::write_atomically;
pub use setting::{is_within, nearest_name, setting_below};

/// Extension of the files of an [`AtomicRecorder`].
const EXTENSION: &str = "mpk";

/// Shapes of parameters by their IDs.
pub(crate) type Parameters = BTreeMap<String, Vec<u64>>;

/// Records in the format of Burn's default recorder (named MessagePack, full precision), in files
/// [written atomically](write_atomically) and followed by a tag of their owner and a checksum, which
/// Burn's own recorder ignores.
///
/// Clones share the first failure, because Burn's checkpointer only keeps its text.
#[derive(Debug, Default, Clone)]
pub struct AtomicRecorder {
    failure: Failure,
    /// Whether a failed write is only remembered: a full disk must not end a training.
    is_lenient: bool,
    owner: Owner,
}

/// The first failure of all clones.
#[derive(Debug, Default, Clone)]
pub(crate) struct Failure(Arc<Mutex<Option<TrainError>>>);

impl Failure {
    pub(crate) fn set(&self, error: TrainError) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(error);
    }

    pub(crate) fn take(&self) -> Option<TrainError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl AtomicRecorder {
    pub(crate) fn with_failure(failure: Failure) -> Self {
        Self {
            failure,
            ..Self::default()
        }
    }

    /// Remembers failed writes and returns success.
    pub(crate) fn lenient(failure: Failure) -> Self {
        Self {
            failure,
            is_lenient: true,
            ..Self::default()
        }
    }

    /// Tags the files with this owner.
    pub(crate) fn of(mut self, owner: Owner) -> Self {
        self.owner = owner;
        self
    }

    /// The file for a path without extension.
    pub fn file(path: impl Into<PathBuf>) -> PathBuf {
        let mut path = path.into();
        path.set_extension(EXTENSION);
        path
    }

    /// Loads a record, naming the file if that fails.
    ///
    /// # Errors
    /// [`TrainError::Damaged`].
    pub fn load_named<B: Backend, R: burn::record::Record<B>>(
        path: &Path,
        device: &B::Device,
    ) -> Result<R, TrainError> {
        let load = |path| Recorder::<B>::load(&Self::default(), path, device);
        load(path.to_owned()).map_err(|error| TrainError::Damaged {
            path: Self::file(path),
            reason: reason(error),
        })
    }

    /// Checks that a record fits a module and belongs to the owner, before any tensor is allocated.
    pub(crate) fn check_module<B: Backend, M: Module<B>>(
        path: &Path,
        module: &M,
        owner: &Owner,
    ) -> Result<Parameters, TrainError> {
        let found = Self::check(path, owner)?;
        fit::check_module(&found, module).map_err(|reason| TrainError::OtherWeights {
            path: Self::file(path),
            reason,
        })
    }

    /// Checks that a record is the state of an optimizer of these parameters and belongs to the owner.
    pub(crate) fn check_state(
        path: &Path,
        parameters: &Parameters,
        owner: &Owner,
    ) -> Result<(), TrainError> {
        let found = Self::check(path, owner)?;
        fit::check_state(&found, parameters).map_err(|reason| TrainError::Damaged {
            path: Self::file(path),
            reason,
        })
    }

    /// Checks the owner of a record. Returns its content.
    pub(crate) fn check(path: &Path, owner: &Owner) -> Result<Found, TrainError> {
        let path = Self::file(path);
        match open(&path) {
            Ok((_, tag, found)) => owner.check(&path, &tag).map(|()| found),
            Err(error) => {
                let reason = error.to_string();
                Err(TrainError::Damaged { path, reason })
            }
        }
    }

    /// Whether two files can be read and have the same record, whosever they are.
    pub(crate) fn are_same(paths: [&Path; 2]) -> bool {
        let [first, second] = paths.map(|path| {
            let file = open_regular(&Self::file(path));
            file.and_then(|mut file| sum_of_content(&mut file)).ok()
        });
        first.is_some() && first == second
    }

    /// Loads a module that has been [checked](Self::check_module).
    pub(crate) fn load_module<B: Backend, M: Module<B>>(
        path: &Path,
        module: M,
        owner: &Owner,
        device: &B::Device,
    ) -> Result<M, TrainError> {
        Self::check_module(path, &module, owner)?;
        Ok(module.load_record(Self::load_named::<B, _>(path, device)?))
    }
}

/// Opens a record and checks its checksum and the sizes of its tensors.
fn open(path: &Path) -> io::Result<(File, Tag, Found)> {
    let mut file = open_regular(path)?;
    let verified = verify(&mut file)?;
    let found = scan::scan(&mut file, verified.length)?;
    fit::check_tensors(&found).map_err(|text| io::Error::new(io::ErrorKind::InvalidData, text))?;
    file.seek(SeekFrom::Start(0))?;
    Ok((file, verified.tag, found))
}

/// The text of an error, without Burn's nesting.
fn reason(error: RecorderError) -> String {
    match error {
        RecorderError::FileNotFound(text) | RecorderError::Unknown(text) => text.replace('\n', " "),
        other => other.to_string(),
    }
}

impl<B: Backend> FileRecorder<B> for AtomicRecorder {
    fn file_extension() -> &'static str {
        EXTENSION
    }
}

impl<B: Backend> Recorder<B> for AtomicRecorder {
    type Settings = FullPrecisionSettings;
    type RecordArgs = PathBuf;
    type RecordOutput = ();
    type LoadArgs = PathBuf;

    fn save_item<I: Serialize>(&self, item: I, path: PathBuf) -> Result<(), RecorderError> {
        let path = Self::file(path);
        let written = write_atomically(&path, |writer| {
            write_tagged(writer, &self.owner.tag(&path), |writer| {
                rmp_serde::encode::write_named(writer, &item).map_err(write_error)
            })
        });
        written.or_else(|source| {
            let text = source.to_string();
            self.failure.set(TrainError::Write { path, source });
            match self.is_lenient {
                true => Ok(()),
                false => Err(RecorderError::Unknown(text)),
            }
        })
    }

    fn load_item<I: DeserializeOwned>(&self, path: &mut PathBuf) -> Result<I, RecorderError> {
        let (file, ..) = open(&Self::file(path.clone())).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => RecorderError::FileNotFound(error.to_string()),
            _ => RecorderError::Unknown(error.to_string()),
        })?;
        rmp_serde::decode::from_read(BufReader::new(file))
            .map_err(|error| RecorderError::Unknown(error.to_string()))
    }
}

/// The error of the operating system, if that kept a record from being written.
fn write_error(error: rmp_serde::encode::Error) -> io::Error {
    match error {
        rmp_serde::encode::Error::InvalidValueWrite(error) => error.into(),
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use burn::module::{Module, Param};
    use burn::nn::{Linear, LinearConfig, LinearRecord};
    use burn_flex::Flex;

    fn linear() -> Linear<Flex> {
        LinearConfig::new(3, 2).init(&Default::default())
    }

    fn save(recorder: &AtomicRecorder, path: &Path) -> Result<(), RecorderError> {
        Recorder::<Flex>::record(recorder, linear().into_record(), path.to_owned())
    }

    #[test]
    fn record_comes_back_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model-1");
        let linear = linear();
        let weight = linear.weight.val().into_data();
        let record = linear.into_record();
        Recorder::<Flex>::record(&AtomicRecorder::default(), record, path.clone()).unwrap();
        let loaded: LinearRecord<Flex> =
            AtomicRecorder::load_named::<Flex, _>(&path, &Default::default()).unwrap();
        loaded.weight.val().into_data().assert_eq(&weight, true);
        let names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["model-1.mpk"]);
    }

    #[test]
    fn truncated_and_missing_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model-1");
        let load = || {
            AtomicRecorder::load_named::<Flex, LinearRecord<Flex>>(&path, &Default::default())
                .map(|_| ())
                .unwrap_err()
                .to_string()
        };
        let name = AtomicRecorder::file(&path).display().to_string();
        assert!(load().starts_with(&format!("`{name}` is missing or damaged: ")));
        save(&AtomicRecorder::default(), &path).unwrap();
        let bytes = fs::read(AtomicRecorder::file(&path)).unwrap();
        fs::write(AtomicRecorder::file(&path), &bytes[..bytes.len() / 2]).unwrap();
        let message = load();
        assert!(message.starts_with(&format!("`{name}` is missing or damaged: ")));
        assert_eq!(message.lines().count(), 1, "{message}");
    }

    #[test]
    fn failure_to_write_is_kept_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let failure = Failure::default();
        let recorder = AtomicRecorder::with_failure(failure.clone());
        save(&recorder, &folder.path().join("no/such/folder")).unwrap_err();
        assert!(matches!(failure.take(), Some(TrainError::Write { .. })));
    }

    #[test]
    fn same_weights_are_told_whatever_the_file_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second, third] = ["a", "b", "c"].map(|name| folder.path().join(name));
        let model = linear();
        // Weights are drawn when they are read, by each clone for itself.
        let _ = (model.weight.val(), model.bias.as_ref().map(Param::val));
        for path in [&first, &second] {
            let record = model.clone().into_record();
            Recorder::<Flex>::record(&AtomicRecorder::default(), record, path.clone()).unwrap();
        }
        save(&AtomicRecorder::default(), &third).unwrap();
        assert!(AtomicRecorder::are_same([&first, &second]));
        assert!(!AtomicRecorder::are_same([&first, &third]));
        let none = folder.path().join("none");
        assert!(!AtomicRecorder::are_same([&none, &none]));
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model-1");
        save(&AtomicRecorder::default(), &path).unwrap();
        let file = AtomicRecorder::file(&path);
        let bytes = fs::read(&file).unwrap();
        for position in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[position] ^= 1 << (position % 8);
            fs::write(&file, bytes).unwrap();
            let loaded =
                AtomicRecorder::load_named::<Flex, LinearRecord<Flex>>(&path, &Default::default());
            assert!(
                matches!(loaded, Err(TrainError::Damaged { .. })),
                "{position}"
            );
        }
    }

    #[test]
    fn recorder_of_burn_reads_it_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model-1");
        save(&AtomicRecorder::default(), &path).unwrap();
        let recorder = burn::record::NamedMpkFileRecorder::<FullPrecisionSettings>::new();
        let loaded: Result<LinearRecord<Flex>, _> =
            Recorder::<Flex>::load(&recorder, path, &Default::default());
        assert!(loaded.is_ok());
    }

    #[test]
    fn failure_can_be_only_noted() {
        let folder = tempfile::tempdir().unwrap();
        let failure = Failure::default();
        let recorder = AtomicRecorder::lenient(failure.clone());
        save(&recorder, &folder.path().join("no/such/folder")).unwrap();
        assert!(matches!(failure.take(), Some(TrainError::Write { .. })));
    }
}
