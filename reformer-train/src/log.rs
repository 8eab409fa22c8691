//! `metrics.csv`: what was measured, in a form that anything can read.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::train::logger::MetricLogger;
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{MetricDefinition, NumericEntry};

use crate::averages::Averages;
use crate::error::TrainError;
use crate::memory::ResidentMemory;
use crate::metric::Quantity;
use crate::page::Page;
use crate::record::{Failure, write_atomically};

/// What stands in a row before the measured values.
const FIRST_COLUMNS: [&str; 3] = ["step", "epoch", "split"];

/// The first line: names in lower case, with underscores.
fn header() -> String {
    let quantities = Quantity::ALL.map(|quantity| quantity.name().to_lowercase().replace(' ', "_"));
    let columns = FIRST_COLUMNS.map(str::to_owned).into_iter();
    columns.chain(quantities).collect::<Vec<_>>().join(",")
}

/// A row of `metrics.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Training steps done.
    pub step: usize,
    /// Number of the interval between evaluations, from 1.
    pub epoch: usize,
    /// `train`: a mean over the steps since the row before; `valid`: over the validation data.
    pub split: String,
    /// In the order of [`Quantity::ALL`]; nothing where it was not measured.
    values: [Option<f64>; Quantity::ALL.len()],
}

impl Row {
    /// What was measured of a quantity.
    pub fn get(&self, quantity: Quantity) -> Option<f64> {
        let index = Quantity::ALL.iter().position(|other| *other == quantity)?;
        self.values[index]
    }

    /// Mean negative log-likelihood, in nats; not a number where there is none.
    pub fn loss(&self) -> f64 {
        self.get(Quantity::Loss).unwrap_or(f64::NAN)
    }

    pub(crate) fn set(&mut self, quantity: Quantity, value: f64) {
        if let Some(index) = Quantity::ALL.iter().position(|other| *other == quantity) {
            self.values[index] = Some(value);
        }
    }

    /// A row of the means of some steps.
    pub(crate) fn new(step: usize, epoch: usize, split: &Split, averages: &Averages) -> Self {
        Self {
            step,
            epoch,
            split: split.to_string(),
            values: Quantity::ALL.map(|quantity| averages.mean(quantity)),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(',').collect();
        let [step, epoch, split, values @ ..] = &fields[..] else {
            return None;
        };
        let value = |text: &&str| match text.is_empty() {
            true => Some(None),
            false => text.parse().ok().map(Some),
        };
        let values: Option<Vec<Option<f64>>> = values.iter().map(value).collect();
        Some(Self {
            step: step.parse().ok()?,
            epoch: epoch.parse().ok()?,
            split: (*split).to_owned(),
            values: values?.try_into().ok()?,
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.step, self.epoch, self.split)?;
        for value in self.values {
            match value.filter(|value| !value.is_nan()) {
                // Seven digits are what an `f32` holds.
                Some(value) => write!(f, ",{}", (value as f32))?,
                None => write!(f, ",")?,
            }
        }
        Ok(())
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
    let mut lines = whole.lines().enumerate();
    if lines.next().is_some_and(|(_, line)| line != header()) {
        return Err(TrainError::BadRow {
            path: path.to_owned(),
            line: 1,
        });
    }
    lines
        .map(|(index, line)| {
            Row::parse(line).ok_or_else(|| TrainError::BadRow {
                path: path.to_owned(),
                line: index + 1,
            })
        })
        .collect()
}

/// Writes `metrics.csv` as Burn's learner reports, and the page of the run beside it.
pub struct CsvLog {
    path: PathBuf,
    file: File,
    page: Page,
    rows_every: usize,
    step: usize,
    /// Time that the run took before this process.
    seconds: f64,
    started: Instant,
    train: Averages,
    valid: Averages,
    failure: Failure,
}

impl CsvLog {
    /// Opens the log of a run that stands at `step`, and drops rows of later steps, which are
    /// going to be done again. Training steps are summed up in rows of `rows_every`.
    ///
    /// # Errors
    /// A file that cannot be written, or rows that cannot be read.
    pub(crate) fn open(
        page: Page,
        step: usize,
        rows_every: usize,
        failure: Failure,
    ) -> Result<Self, TrainError> {
        let path = page.metrics_path();
        let mut rows = match path.exists() {
            true => read_rows(&path)?,
            false => vec![],
        };
        rows.retain(|row| row.step <= step);
        let write = || -> io::Result<File> {
            write_atomically(&path, |writer| {
                writeln!(writer, "{}", header())?;
                rows.iter().try_for_each(|row| writeln!(writer, "{row}"))
            })?;
            OpenOptions::new().append(true).open(&path)
        };
        let file = write().map_err(|source| TrainError::Write {
            path: path.clone(),
            source,
        })?;
        Ok(Self {
            path,
            file,
            page,
            rows_every,
            step,
            seconds: rows
                .last()
                .and_then(|row| row.get(Quantity::Seconds))
                .unwrap_or(0.0),
            started: Instant::now(),
            train: Averages::new(),
            valid: Averages::new(),
            failure,
        })
    }

    fn write(&mut self, averages: Averages, epoch: usize, split: &Split) {
        if averages.mean(Quantity::Loss).is_none() {
            return;
        }
        let mut row = Row::new(self.step, epoch, split, &averages);
        let seconds = self.seconds + self.started.elapsed().as_secs_f64();
        row.set(Quantity::Seconds, seconds);
        if let Some(memory) = ResidentMemory::of_this_process() {
            let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            row.set(Quantity::Memory, mebibytes(memory.current));
            row.set(Quantity::PeakMemory, mebibytes(memory.peak));
        }
        // One call, so that a killed run leaves at most one broken line.
        if let Err(source) = self.file.write_all(format!("{row}\n").as_bytes()) {
            self.failure.set(TrainError::Write {
                path: self.path.clone(),
                source,
            });
        }
    }

    fn refresh_page(&mut self, is_due: bool) {
        if let Err(error) = self.page.refresh(self.step, is_due) {
            self.failure.set(error);
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
            self.refresh_page(false);
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
        self.refresh_page(summary.split != Split::Train);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TrainConfig;
    use crate::data::DataConfig;
    use reformer_core::model::{ReformerConfig, ReformerLmConfig};

    fn row(step: usize, split: &str) -> Row {
        let mut values = [None; Quantity::ALL.len()];
        values[0] = Some(0.5);
        values[2] = Some(0.1);
        Row {
            step,
            epoch: 1,
            split: split.to_owned(),
            values,
        }
    }

    fn open(run: &Path, step: usize) -> Result<CsvLog, TrainError> {
        let model = ReformerLmConfig::new(ReformerConfig::new(256, 16, 1));
        let config = TrainConfig::new(model.into(), DataConfig::Sample);
        let page = Page::new(run.to_owned(), config, "flex".to_owned());
        CsvLog::open(page, step, 10, Failure::default())
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
        fs::write(&path, format!("{}\n{lines}30,2,tr", header())).unwrap();
        assert_eq!(read_rows(&path).unwrap(), rows);
        open(folder.path(), 10).unwrap();
        assert_eq!(read_rows(&path).unwrap(), rows[..2]);
    }

    #[test]
    fn strange_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        fs::write(&path, format!("{}\n{}\nhello\n", header(), row(1, "train"))).unwrap();
        let error = open(folder.path(), 1).map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with("line 3 of `"), "{error}");
    }
}
