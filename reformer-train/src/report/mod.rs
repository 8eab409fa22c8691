//! `report.html`: a run on one self-contained page.
//!
//! The page loads nothing: style, script and data are inline, and its content security policy
//! forbids the rest. Without scripts it still shows the last values.

mod frame;
mod html;
pub(crate) mod log;
pub(crate) mod page;
pub(crate) mod samples;
pub(crate) mod tensorboard;

pub use frame::{HtmlPage, escape};

use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::record::write_atomically;

/// The phase of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The run is training.
    Running,
    /// All steps are done.
    Finished,
    /// Ended before its last step.
    Stopped,
}

/// The progress of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Its phase.
    pub phase: Phase,
    /// Steps done.
    pub step: usize,
    /// Total steps of the run.
    pub steps: usize,
    /// Training time so far.
    pub seconds: f64,
}

/// The environment of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Version of this crate.
    pub version: String,
    /// Name of the backend, from [`Backend::name`](burn::tensor::backend::Backend::name).
    pub backend: String,
    /// Operating system and processor.
    pub system: String,
    /// Threads that the system offers.
    pub threads: usize,
    /// The command line.
    pub command: String,
}

impl Environment {
    /// The environment of this process.
    ///
    /// ```
    /// use burn::tensor::backend::Backend;
    /// use burn_flex::Flex;
    /// use reformer_train::report::Environment;
    ///
    /// let environment = Environment::of_this_process(Flex::name(&Default::default()));
    /// assert!(environment.threads >= 1);
    /// ```
    pub fn of_this_process(backend: impl Into<String>) -> Self {
        let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            backend: backend.into(),
            system: format!("{}, {}", std::env::consts::OS, std::env::consts::ARCH),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            command: arguments.collect::<Vec<_>>().join(" "),
        }
    }
}

/// Values of one quantity in one split. Series of the same name share a chart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// Name of the quantity, above its chart.
    pub name: String,
    /// Its unit, or nothing.
    pub unit: String,
    /// The data it was measured on, such as `train`.
    pub split: String,
    /// Step and value, in the order of steps. Values that are not finite are gaps in the curve.
    pub points: Vec<(f64, f64)>,
}

/// A text that the model generated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Steps done when it was generated.
    pub step: usize,
    /// The text.
    pub text: String,
}

/// The content of the page.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Name of the run.
    pub title: String,
    /// Its progress.
    pub status: Status,
    /// The configuration, shown unchanged: best
    /// [pretty](serde_json::to_string_pretty) JSON.
    pub config_json: String,
    /// What was read from its data: the split, such as `Training`, and a line about it.
    pub data: Vec<(String, String)>,
    /// Its environment.
    pub environment: Environment,
    /// The curves.
    pub series: Vec<Series>,
    /// Generated texts, the oldest first.
    pub samples: Vec<Sample>,
    /// Seconds after which the page reloads itself, while the run is
    /// [running](Phase::Running).
    pub refresh_seconds: Option<u32>,
}

/// Writes a report as one HTML file, [atomically](write_atomically): a browser that reloads it
/// never sees a part.
///
/// ```
/// use reformer_train::report::{Environment, Phase, Report, Series, Status, write_report};
///
/// # fn main() -> Result<(), reformer_train::TrainError> {
/// let report = Report {
///     title: "first".to_owned(),
///     status: Status { phase: Phase::Finished, step: 20, steps: 20, seconds: 3.5 },
///     config_json: r#"{ "d_model": 256 }"#.to_owned(),
///     data: vec![("Training".to_owned(), "reviews.csv: 1 file, 120 records".to_owned())],
///     environment: Environment::of_this_process("flex"),
///     series: vec![Series {
///         name: "loss".to_owned(),
///         unit: "nats".to_owned(),
///         split: "train".to_owned(),
///         points: vec![(10.0, 5.1), (20.0, 4.2)],
///     }],
///     samples: vec![],
///     refresh_seconds: None,
/// };
/// # let folder = tempfile::tempdir().unwrap();
/// write_report(&report, &folder.path().join("report.html"))?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`TrainError::Write`].
pub fn write_report(report: &Report, path: &Path) -> Result<(), TrainError> {
    let written = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    write_atomically(path, |file| {
        file.write_all(html::page(report, written)?.as_bytes())
    })
    .map_err(|source| TrainError::Write {
        path: path.to_owned(),
        source,
    })
}
