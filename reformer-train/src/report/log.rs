//! Writing `metrics.csv`: the measured values in a portable format.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::train::logger::MetricLogger;
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{MetricDefinition, NumericEntry};

use crate::error::TrainError;
use crate::metrics::Quantity;
use crate::metrics::averages::Averages;
use crate::metrics::memory::ResidentMemory;
use crate::metrics::row::{Lines, Row, header, read_rows};
use crate::record::{Failure, append_line, write_atomically};
use crate::report::page::Page;
use crate::report::tensorboard::EventLog;

/// Writes `metrics.csv` as Burn's learner reports, and updates the page of the run.
pub(crate) struct CsvLog {
    path: PathBuf,
    file: File,
    page: Page,
    rows_every: [usize; 2],
    step: usize,
    /// Time that the run took in earlier processes.
    seconds: f64,
    started: Instant,
    train: Averages,
    valid: Averages,
    events: Option<EventLog>,
    failure: Failure,
}

impl CsvLog {
    /// Opens the log of a run after `step` steps, and drops rows of later steps and evaluations after
    /// `n_evaluated` ones, which will be repeated. Rows are means of training steps and end at multiples of the
    /// numbers of `rows_every`. These include the checkpoint interval, so that a resumed run
    /// averages the same steps as an uninterrupted one.
    ///
    /// # Errors
    /// A file that cannot be written, or has other columns.
    pub(crate) fn open(
        page: Page,
        [step, n_evaluated]: [usize; 2],
        rows_every: [usize; 2],
        failure: Failure,
    ) -> Result<Self, TrainError> {
        let path = page.metrics_path();
        let mut lines = match path.exists() {
            true => Lines::read(&path)?,
            false => Lines {
                rows: vec![],
                broken: vec![],
                is_ended: false,
            },
        };
        if let Some(error) = lines.error(&path) {
            failure.set(error);
        }
        let n_rows = lines.rows.len();
        let last = |row: &Row| {
            if row.split == "valid" {
                n_evaluated
            } else {
                step
            }
        };
        lines.rows.retain(|row| row.step <= last(row));
        let rows = lines.rows;
        let is_clean = lines.is_ended && lines.broken.is_empty() && rows.len() == n_rows;
        let write = || -> io::Result<File> {
            if !is_clean {
                write_atomically(&path, |writer| {
                    writeln!(writer, "{}", header())?;
                    rows.iter().try_for_each(|row| writeln!(writer, "{row}"))
                })?;
            }
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
            events: None,
            failure,
        })
    }

    /// Writes the rows to an event file of TensorBoard as well, in the same folder.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn with_events(mut self) -> Result<Self, TrainError> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        self.events = Some(EventLog::create(folder, &read_rows(&self.path)?)?);
        Ok(self)
    }

    fn write(&mut self, averages: Averages, split: &Split) {
        if averages.mean(Quantity::Loss).is_none() {
            return;
        }
        // Burn counts epochs from the start of the process.
        let epoch = self.page.epoch(self.step);
        let mut row = Row::new(self.step, epoch, split, &averages);
        let seconds = self.seconds + self.started.elapsed().as_secs_f64();
        row.set(Quantity::Seconds, seconds);
        if let Some(memory) = ResidentMemory::of_this_process() {
            let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            row.set(Quantity::Memory, mebibytes(memory.current));
            row.set(Quantity::PeakMemory, mebibytes(memory.peak));
        }
        // A single write, so that a killed run leaves at most one incomplete line.
        if let Err(source) = append_line(&mut self.file, format!("{row}\n").as_bytes()) {
            self.failure.set(TrainError::Write {
                path: self.path.clone(),
                source,
            });
        }
        if let Some(Err(error)) = self.events.as_mut().map(|events| events.add(&row)) {
            self.failure.set(error);
        }
    }

    fn refresh_page(&mut self, is_due: bool) {
        if let Err(error) = self.page.refresh(self.step, is_due) {
            self.failure.set(error);
        }
    }
}

impl MetricLogger for CsvLog {
    fn log(&mut self, update: MetricsUpdate, _epoch: usize, split: &Split) {
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
            if self
                .rows_every
                .iter()
                .any(|every| self.step.is_multiple_of(*every))
            {
                let averages = std::mem::take(&mut self.train);
                self.write(averages, split);
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
        // Only called by strategies that choose among checkpoints; none is used here.
        Ok(vec![])
    }

    fn log_metric_definition(&mut self, _definition: MetricDefinition) {}

    fn log_epoch_summary(&mut self, summary: EpochSummary) {
        let averages = match summary.split {
            Split::Train => std::mem::take(&mut self.train),
            Split::Valid | Split::Test(_) => std::mem::take(&mut self.valid),
        };
        self.write(averages, &summary.split);
        self.refresh_page(summary.split != Split::Train);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use burn::train::metric::store::NumericMetricUpdate;
    use burn::train::metric::{MetricEntry, MetricId, SerializedEntry};

    use crate::config::TrainConfig;
    use crate::data::DataConfig;
    use crate::metrics::row::tests::row;
    use reformer_core::model::{ReformerConfig, ReformerLmConfig};

    fn open(run: &Path, step: usize) -> Result<CsvLog, TrainError> {
        let model = ReformerLmConfig::new(ReformerConfig::new(256, 16, 1));
        let config = TrainConfig::new(model.into(), DataConfig::Sample);
        let page = Page::new(run.to_owned(), config, "flex".to_owned());
        CsvLog::open(page, [step, step], [10, 10], Failure::default())
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

    /// Burn's report of a training step.
    fn trained(loss: f64) -> MetricsUpdate {
        let entry = NumericEntry::Value(loss);
        let id = MetricId::new(Quantity::Loss.name().to_owned().into());
        let shown = SerializedEntry::new(String::new(), String::new());
        let update = NumericMetricUpdate {
            entry: MetricEntry::new(id, shown),
            numeric_entry: entry.clone(),
            running_entry: entry,
        };
        MetricsUpdate::new(vec![], vec![update])
    }

    #[test]
    fn rows_end_at_checkpoints_so_that_a_resumed_run_has_those_of_an_unbroken_one() {
        let folder = tempfile::tempdir().unwrap();
        let run = |name: &str, from: usize, ends_at: usize| {
            let folder = folder.path().join(name);
            fs::create_dir_all(&folder).unwrap();
            let model = ReformerLmConfig::new(ReformerConfig::new(256, 16, 1));
            let config = TrainConfig::new(model.into(), DataConfig::Sample);
            let page = Page::new(folder.clone(), config, "flex".to_owned());
            let mut log = CsvLog::open(page, [from, from], [10, 4], Failure::default()).unwrap();
            for step in from..ends_at {
                log.log(trained(step as f64), 1, &Split::Train);
            }
            let rows = read_rows(&folder.join("metrics.csv")).unwrap();
            let rows: Vec<(usize, f64)> = rows.iter().map(|row| (row.step, row.loss())).collect();
            rows
        };
        let unbroken = run("unbroken", 0, 12);
        assert_eq!(unbroken, [(4, 1.5), (8, 5.5), (10, 8.5), (12, 10.5)]);
        // Killed after the sixth step, it resumes from the checkpoint after the fourth.
        run("killed", 0, 6);
        assert_eq!(run("killed", 4, 12), unbroken);
    }

    #[test]
    fn lines_that_are_not_rows_are_dropped_and_reported_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let [first, second] = [row(1, "train"), row(2, "train")];
        let half = first.to_string();
        let half = &half[..half.len() / 2];
        let text = format!(
            "{}\n{first}\n{half}{first}\nhello\n{second}\n{half}",
            header()
        );
        fs::write(&path, text).unwrap();
        let model = ReformerLmConfig::new(ReformerConfig::new(256, 16, 1));
        let config = TrainConfig::new(model.into(), DataConfig::Sample);
        let page = Page::new(folder.path().to_owned(), config, "flex".to_owned());
        let failure = Failure::default();
        CsvLog::open(page, [2, 2], [10, 10], failure.clone()).unwrap();
        let message = failure.take().expect("two lines are not rows").to_string();
        assert!(
            message.starts_with("line 3 of `") && message.contains("1 others"),
            "{message}"
        );
        assert_eq!(read_rows(&path).unwrap(), [first, second]);
        let whole = fs::read_to_string(&path).unwrap();
        assert_eq!(whole.lines().count(), 3);
    }

    #[test]
    fn other_columns_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        fs::write(&path, "step,loss\n1,0.5\n").unwrap();
        let error = open(folder.path(), 1).map(|_| ()).unwrap_err();
        assert!(matches!(error, TrainError::OtherColumns { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "step,loss\n1,0.5\n");
    }
}
