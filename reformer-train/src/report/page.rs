//! The page of a run, rewritten while it trains.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use reformer_datasets::ReadReport;

use crate::config::TrainConfig;
use crate::data::DataReport;
use crate::error::TrainError;
use crate::metrics::Quantity;
use crate::metrics::row::{Row, read_rows};
use crate::report::samples::Samples;
use crate::report::{Environment, Phase, Report, Series, Status, write_report};

/// Minimum time between two versions of the page, except after evaluations.
const REFRESH_EVERY: Duration = Duration::from_secs(20);
const SPLITS: [&str; 2] = ["train", "valid"];
/// Maximum number of points of a curve. A run writes fewer, but it can be extended.
const MAX_POINTS: usize = 5000;
/// Samples that are shown, the newest ones.
const N_SAMPLES: usize = 20;

/// `report.html` in a run's folder. Its content comes from the other files.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    folder: PathBuf,
    config: TrainConfig,
    environment: Environment,
    data: Vec<(String, String)>,
    bytes_per_token: Option<f64>,
    last_written: Instant,
}

/// Quantities that are in metrics.csv alone: their curves repeat those of bits and of peak memory, or are a
/// straight line.
pub(crate) const UNPLOTTED: [Quantity; 3] =
    [Quantity::Perplexity, Quantity::Memory, Quantity::Seconds];

impl Page {
    /// The page of the run in a folder, with the name of its backend.
    pub(crate) fn new(folder: PathBuf, config: TrainConfig, backend: String) -> Self {
        Self {
            folder,
            config,
            environment: Environment::of_this_process(backend),
            data: Vec::new(),
            bytes_per_token: None,
            last_written: Instant::now(),
        }
    }

    /// Adds what was read from the data.
    pub(crate) fn with_data(mut self, data: &DataReport) -> Self {
        let parts = [("Training", &data.train), ("Validation", &data.valid)];
        let row = |(part, report): (&str, &ReadReport)| (part.to_owned(), report.to_string());
        self.data = parts.map(row).to_vec();
        self.bytes_per_token = data.bytes_per_token;
        self
    }

    pub(crate) fn metrics_path(&self) -> PathBuf {
        self.folder.join("metrics.csv")
    }

    /// Number of the interval between evaluations that contains a step, from 1. Steps are counted from
    /// 1 here.
    pub(crate) fn epoch(&self, step: usize) -> usize {
        step.div_ceil(self.config.steps_per_epoch).max(1)
    }

    /// Writes the page of a running run, if it is due or old.
    pub(crate) fn refresh(&mut self, step: usize, is_due: bool) -> Result<(), TrainError> {
        if !is_due && self.last_written.elapsed() < REFRESH_EVERY {
            return Ok(());
        }
        self.last_written = Instant::now();
        self.write(Phase::Running, step)
    }

    /// Writes the page.
    pub(crate) fn write(&self, phase: Phase, step: usize) -> Result<(), TrainError> {
        let rows = read_rows(&self.metrics_path())?;
        let last = rows.last().and_then(|row| row.get(Quantity::Seconds));
        let mut samples = Samples::of_run(&self.folder).read();
        let report = Report {
            title: self
                .folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            status: Status {
                phase,
                step,
                steps: self.config.steps,
                seconds: last.unwrap_or(0.0),
            },
            config_json: serde_json::to_string_pretty(&self.config).unwrap_or_default(),
            data: self.data.clone(),
            environment: self.environment.clone(),
            series: self.series(&rows),
            samples: samples.split_off(samples.len().saturating_sub(N_SAMPLES)),
            refresh_seconds: Some(REFRESH_EVERY.as_secs() as u32),
        };
        write_report(&report, &self.folder.join("report.html"))
    }

    /// A curve of each quantity that was measured, in each split.
    fn series(&self, rows: &[Row]) -> Vec<Series> {
        let curve = |quantity: Quantity, split: &str| {
            let of_split = rows.iter().filter(|row| row.split == split);
            let points = of_split.filter_map(|row| Some((row.step as f64, row.get(quantity)?)));
            Series {
                name: quantity.label(&self.config.data),
                unit: quantity.unit().unwrap_or_default().to_owned(),
                split: split.to_owned(),
                points: thinned(points.collect()),
            }
        };
        let quantities = Quantity::ALL.into_iter();
        let curves = quantities
            .filter(|quantity| !UNPLOTTED.contains(quantity))
            .flat_map(|quantity| SPLITS.map(|split| curve(quantity, split)));
        let per_byte = self.bytes_per_token.map(|bytes| {
            let mut series = curve(Quantity::Bits, "valid");
            series.name = "Bits per byte".to_owned();
            for (_, bits) in &mut series.points {
                *bits /= bytes;
            }
            series
        });
        let is_drawn = |series: &Series| !series.points.is_empty();
        curves.chain(per_byte).filter(is_drawn).collect()
    }
}

/// Reduces points to the maximum of a curve, keeping the last one.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let every = points.len().div_ceil(MAX_POINTS).max(1);
    let skipped = points.len().saturating_sub(1) % every;
    points.into_iter().skip(skipped).step_by(every).collect()
}
