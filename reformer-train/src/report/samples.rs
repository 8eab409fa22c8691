//! `samples.jsonl`: texts that the model generated during training.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::TrainError;
use crate::record::{append_line, read_regular, write_atomically};
use crate::report::Sample;

/// Maximum bytes of a line. Samples are a few hundred characters long.
const MAX_LINE: usize = 1 << 20;

/// The samples of a run, a line of JSON each.
#[derive(Debug, Clone)]
pub(crate) struct Samples {
    path: PathBuf,
}

impl Samples {
    /// The samples of the run in this folder.
    pub(crate) fn of_run(folder: &Path) -> Self {
        Self {
            path: folder.join("samples.jsonl"),
        }
    }

    /// All of them, the oldest first. Invalid lines are left out: a killed run can leave one.
    pub(crate) fn read(&self) -> Vec<Sample> {
        let bytes = read_regular(&self.path).unwrap_or_default();
        let lines = bytes.split(|byte| *byte == b'\n');
        lines
            .filter(|line| line.len() <= MAX_LINE)
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect()
    }

    /// Drops those of later steps, which will be repeated.
    pub(crate) fn rewind(&self, step: usize) -> Result<(), TrainError> {
        if !self.path.exists() {
            return Ok(());
        }
        let mut samples = self.read();
        samples.retain(|sample| sample.step <= step);
        self.written(write_atomically(&self.path, |file| {
            samples
                .iter()
                .try_for_each(|sample| file.write_all(&line(sample)?))
        }))
    }

    /// Adds a sample.
    pub(crate) fn add(&self, sample: &Sample) -> Result<(), TrainError> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path);
        self.written(file.and_then(|mut file| append_line(&mut file, &line(sample)?)))
    }

    fn written(&self, result: io::Result<()>) -> Result<(), TrainError> {
        result.map_err(|source| TrainError::Write {
            path: self.path.clone(),
            source,
        })
    }
}

fn line(sample: &Sample) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(sample)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_back_but_for_later_ones_and_a_broken_line() {
        let folder = tempfile::tempdir().unwrap();
        let samples = Samples::of_run(folder.path());
        samples.rewind(3).unwrap();
        let sample = |step| Sample {
            step,
            text: format!("step\n\"{step}\""),
        };
        for step in [2, 4, 6] {
            samples.add(&sample(step)).unwrap();
        }
        let mut file = OpenOptions::new().append(true).open(&samples.path).unwrap();
        file.write_all(b"\xff\n{\"step\": 7, \"text\": \"").unwrap();
        file.write_all(&vec![b'a'; 2 * MAX_LINE]).unwrap();
        file.write_all(b"\"}\n{\"step\": 8, \"te").unwrap();
        assert_eq!(samples.read(), [2, 4, 6].map(sample));
        samples.rewind(4).unwrap();
        assert_eq!(samples.read(), [2, 4].map(sample));
    }
}
