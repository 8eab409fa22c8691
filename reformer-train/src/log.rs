//! `metrics.csv`: what was measured, in a form that anything can read.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use burn::train::Interrupter;
use burn::train::logger::MetricLogger;
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{MetricDefinition, NumericEntry};

use crate::averages::Averages;
use crate::error::TrainError;
use crate::metric::Quantity;
use crate::record::{Failure, write_atomically};

const HEADER: &str = "step,epoch,split,loss,bits_per_byte,accuracy_percent,tokens_per_second";

/// A row of `metrics.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Training steps done.
    pub step: usize,
    /// Epoch, from 1.
    pub epoch: usize,
    /// `train`: a mean over the steps since the row before; `valid`: over the validation data.
    pub split: String,
    /// Mean negative log-likelihood, in nats.
    pub loss: f64,
    /// The same in bits.
    pub bits_per_byte: f64,
    /// Share of correct predictions, in percent.
    pub accuracy: f64,
    /// Speed.
    pub tokens_per_second: f64,
}

impl Row {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(',').collect();
        let [
            step,
            epoch,
            split,
            loss,
            bits_per_byte,
            accuracy,
            tokens_per_second,
        ] = fields[..]
        else {
            return None;
        };
        Some(Self {
            step: step.parse().ok()?,
            epoch: epoch.parse().ok()?,
            split: split.to_owned(),
            loss: loss.parse().ok()?,
            bits_per_byte: bits_per_byte.parse().ok()?,
            accuracy: accuracy.parse().ok()?,
            tokens_per_second: tokens_per_second.parse().ok()?,
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{},{},{},{:.6},{:.6},{:.3},{:.0}",
            self.step,
            self.epoch,
            self.split,
            self.loss,
            self.bits_per_byte,
            self.accuracy,
            self.tokens_per_second
        )
    }
}

/// Reads `metrics.csv`.
///
/// # Errors
/// A file that cannot be read, or a line of another form. A last line without its end is left
/// out: a killed run can leave one.
pub fn read_rows(path: &Path) -> Result<Vec<Row>, TrainError> {
    let text = fs::read_to_string(path).map_err(|source| TrainError::Read {
        path: path.to_owned(),
        source,
    })?;
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let lines = whole.lines().enumerate().skip(1);
    lines
        .map(|(index, line)| {
            Row::parse(line).ok_or_else(|| TrainError::BadRow {
                path: path.to_owned(),
                line: index + 1,
            })
        })
        .collect()
}

/// Writes `metrics.csv` as Burn's learner reports.
pub struct CsvLog {
    path: PathBuf,
    file: File,
    rows_every: usize,
    step: usize,
    train: Averages,
    valid: Averages,
    failure: Failure,
    interrupter: Interrupter,
}

impl CsvLog {
    /// Opens the log of a run that stands at `step`, and drops rows of later steps, which are
    /// going to be done again. Training steps are summed up in rows of `rows_every`.
    ///
    /// # Errors
    /// A file that cannot be written, or rows that cannot be read.
    pub(crate) fn open(
        path: &Path,
        step: usize,
        rows_every: usize,
        failure: Failure,
        interrupter: Interrupter,
    ) -> Result<Self, TrainError> {
        let mut rows = match path.exists() {
            true => read_rows(path)?,
            false => vec![],
        };
        rows.retain(|row| row.step <= step);
        let write = || -> io::Result<File> {
            write_atomically(path, |writer| {
                writeln!(writer, "{HEADER}")?;
                rows.iter().try_for_each(|row| writeln!(writer, "{row}"))
            })?;
            OpenOptions::new().append(true).open(path)
        };
        let file = write().map_err(|source| TrainError::Write {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            rows_every,
            step,
            train: Averages::new(),
            valid: Averages::new(),
            failure,
            interrupter,
        })
    }

    fn write(&mut self, averages: Averages, epoch: usize, split: &Split) {
        let Some(loss) = averages.mean(Quantity::Loss) else {
            return;
        };
        let mean = |quantity| averages.mean(quantity).unwrap_or(f64::NAN);
        let row = Row {
            step: self.step,
            epoch,
            split: split.to_string(),
            loss,
            bits_per_byte: mean(Quantity::BitsPerByte),
            accuracy: mean(Quantity::Accuracy),
            tokens_per_second: mean(Quantity::TokensPerSecond),
        };
        // One call, so that a killed run leaves at most one broken line.
        if let Err(source) = self.file.write_all(format!("{row}\n").as_bytes()) {
            self.interrupter.stop(Some("metrics.csv cannot be written"));
            self.failure.set(TrainError::Write {
                path: self.path.clone(),
                source,
            });
        }
    }
}

impl MetricLogger for CsvLog {
    fn log(&mut self, update: MetricsUpdate, epoch: usize, split: &Split) {
        let is_train = *split == Split::Train;
        let averages = if is_train {
            &mut self.train
        } else {
            &mut self.valid
        };
        for numeric in &update.entries_numeric {
            averages.add(&numeric.entry.metric_id, &numeric.numeric_entry);
        }
        if is_train {
            self.step += 1;
            if self.step.is_multiple_of(self.rows_every) {
                let averages = std::mem::take(&mut self.train);
                self.write(averages, epoch, split);
            }
        }
    }

    fn read_numeric(
        &mut self,
        _name: &str,
        _epoch: usize,
        _split: &Split,
    ) -> Result<Vec<NumericEntry>, String> {
        // Only asked for by strategies that choose among checkpoints; there is none here.
        Ok(vec![])
    }

    fn log_metric_definition(&mut self, _definition: MetricDefinition) {}

    fn log_epoch_summary(&mut self, summary: EpochSummary) {
        let averages = match summary.split {
            Split::Train => std::mem::take(&mut self.train),
            Split::Valid | Split::Test(_) => std::mem::take(&mut self.valid),
        };
        self.write(averages, summary.epoch_number, &summary.split);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: usize, split: &str) -> Row {
        Row {
            step,
            epoch: 1,
            split: split.to_owned(),
            loss: 0.5,
            bits_per_byte: 0.25,
            accuracy: 12.5,
            tokens_per_second: 1000.0,
        }
    }

    fn open(path: &Path, step: usize) -> Result<CsvLog, TrainError> {
        CsvLog::open(path, step, 10, Failure::default(), Interrupter::new())
    }

    #[test]
    fn rows_come_back() {
        assert_eq!(
            Row::parse(&row(7, "valid").to_string()),
            Some(row(7, "valid"))
        );
        assert_eq!(Row::parse("7,1,valid"), None);
    }

    #[test]
    fn resumed_log_drops_what_is_done_again_and_a_broken_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let rows = [row(10, "train"), row(10, "valid"), row(20, "train")];
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        fs::write(&path, format!("{HEADER}\n{lines}30,2,tr")).unwrap();
        assert_eq!(read_rows(&path).unwrap(), rows);
        open(&path, 10).unwrap();
        assert_eq!(read_rows(&path).unwrap(), rows[..2]);
    }

    #[test]
    fn strange_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        fs::write(&path, format!("{HEADER}\n{}\nhello\n", row(1, "train"))).unwrap();
        let error = open(&path, 1).map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with("line 3 of `"), "{error}");
    }
}
