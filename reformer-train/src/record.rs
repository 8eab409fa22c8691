//! Records in files that are either whole or not there.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use burn::record::{FileRecorder, FullPrecisionSettings, Recorder, RecorderError};
use burn::tensor::backend::Backend;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::TrainError;

pub use crate::atomic::write_atomically;

/// Extension of the files of an [`AtomicRecorder`].
const EXTENSION: &str = "mpk";

/// Records in the format of Burn's default recorder (named MessagePack, full precision), in files
/// [written atomically](write_atomically) and followed by a checksum, which Burn's own recorder
/// reads past.
///
/// Clones share the first failure, because Burn's checkpointer keeps only its text.
#[derive(Debug, Default, Clone)]
pub struct AtomicRecorder {
    failure: Failure,
    /// Whether a failed write is only noted: a full disk is no reason to lose a training.
    goes_on: bool,
}

/// The first failure of those who share it.
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
            goes_on: false,
        }
    }

    /// Notes failed writes and answers that all is well.
    pub(crate) fn going_on(failure: Failure) -> Self {
        Self {
            failure,
            goes_on: true,
        }
    }

    /// The file that is meant by a path without extension.
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
            let mut writer = Summed::new(writer);
            rmp_serde::encode::write_named(&mut writer, &item).map_err(io::Error::other)?;
            let checksum = writer.sum.finalize();
            writer.inner.write_all(&trailer(checksum))
        });
        written.or_else(|source| {
            let text = source.to_string();
            self.failure.set(TrainError::Write { path, source });
            match self.goes_on {
                true => Ok(()),
                false => Err(RecorderError::Unknown(text)),
            }
        })
    }

    fn load_item<I: DeserializeOwned>(&self, path: &mut PathBuf) -> Result<I, RecorderError> {
        let unknown = |error: io::Error| RecorderError::Unknown(error.to_string());
        let mut file =
            File::open(Self::file(path.clone())).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => RecorderError::FileNotFound(error.to_string()),
                _ => unknown(error),
            })?;
        verify(&mut file).map_err(unknown)?;
        rmp_serde::decode::from_read(BufReader::new(file))
            .map_err(|error| RecorderError::Unknown(error.to_string()))
    }
}

/// What stands between content and checksum.
const MARK: &[u8; 4] = b"crc=";

/// The last bytes of a file.
fn trailer(checksum: u32) -> [u8; 8] {
    let mut trailer = [0; 8];
    trailer[..4].copy_from_slice(MARK);
    trailer[4..].copy_from_slice(&checksum.to_le_bytes());
    trailer
}

/// Compares content and checksum, and leaves the file at its start. The whole file is read before
/// anything is made of it: a flipped bit in a weight is still a number.
fn verify(file: &mut File) -> io::Result<()> {
    let wrong = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text);
    let length = file.metadata()?.len();
    let Some(content) = length.checked_sub(8) else {
        return Err(wrong("it is too short"));
    };
    let mut summed = Summed::new(io::sink());
    let mut reader = BufReader::new(&mut *file);
    io::copy(&mut (&mut reader).take(content), &mut summed)?;
    let mut found = [0; 8];
    reader.read_exact(&mut found)?;
    if found != trailer(summed.sum.finalize()) {
        return Err(wrong("its checksum is wrong"));
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(())
}

/// Adds up a checksum of what is written.
struct Summed<W> {
    inner: W,
    sum: crc32fast::Hasher,
}

impl<W> Summed<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            sum: crc32fast::Hasher::new(),
        }
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.sum.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use burn::module::Module;
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
        let recorder = AtomicRecorder::going_on(failure.clone());
        save(&recorder, &folder.path().join("no/such/folder")).unwrap();
        assert!(matches!(failure.take(), Some(TrainError::Write { .. })));
    }
}
