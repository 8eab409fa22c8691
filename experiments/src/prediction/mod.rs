//! What trained models say about texts that nobody has labelled: their classes, or answers to questions.

mod answerer;
mod classifier;
mod reading;
mod records;
mod table;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use reformer_core::kernels::ReformerBackend;
use reformer_datasets::EvalLoaderConfig;
use reformer_datasets::labelled::{LabelledBatch, LabelledRows};
use serde_json::Value;

use crate::arguments::{MOST_ROWS, check_range};
use crate::device::DeviceName;
use crate::input::{Lines, lines_at_once};
use crate::out;

pub use answerer::{Answer, Found, QuestionAnswerer};
pub use classifier::TextClassifier;
pub use records::{InputFormat, Record, Records};
pub use table::{OutputFormat, RecordWriter};

/// Digits of a probability that are told.
const DIGITS: f64 = 1e6;

/// Flags of programs that apply a model.
#[derive(Debug, Args)]
pub struct PredictArguments {
    /// Folder of the run, or of a Hugging Face model
    #[arg(long, value_name = "FOLDER")]
    pub checkpoint: PathBuf,
    /// File to read [default: the standard input]
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// What is read [default: what the file's name ends with]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<InputFormat>,
    /// File to write [default: the standard output]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What is written [default: a table if the file's name ends with .csv, else jsonl]
    #[arg(long = "as", value_enum, value_name = "FORMAT")]
    pub output_format: Option<OutputFormat>,
    /// Records at a time
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub batch: usize,
    /// Where to compute
    #[arg(long, value_enum, default_value = "flex")]
    pub device: DeviceName,
}

impl PredictArguments {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// The first flag that cannot be.
    pub fn check(&self) -> Result<()> {
        check_range("--batch", self.batch, MOST_ROWS)
    }

    /// The records of the input; those of a text have it as `field`.
    ///
    /// # Errors
    /// A file that cannot be read or is of another format.
    pub fn records(&self, field: &'static str, default: InputFormat) -> Result<Records> {
        let path = self.input.as_deref();
        let of_path = || path.and_then(InputFormat::of_path);
        let format = self.format.or_else(of_path).unwrap_or(default);
        let name = match path {
            Some(path) => format!("`{}`", path.display()),
            None => "the standard input".to_owned(),
        };
        format.read(Lines::open(path)?, field).context(name)
    }

    /// Says what a model thinks of each record, in order, as soon as there is a batch of them.
    ///
    /// # Errors
    /// Records that cannot be read, that the model cannot work with, or that cannot be written.
    pub fn predict(&self, records: Records, model: &impl Predict) -> Result<()> {
        let at_once = lines_at_once(self.input.as_deref(), self.batch);
        let is_csv = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "csv");
        let format = self.output_format.unwrap_or(match &self.output {
            Some(path) if is_csv(path) => OutputFormat::Csv,
            _ => OutputFormat::Jsonl,
        });
        let (mut records, mut n_done, mut n_cut) = (records, 0, 0);
        out::write_to(self.output.as_deref(), |output| {
            let mut writer = RecordWriter::new(output, format);
            loop {
                let batch = records.by_ref().take(at_once).collect::<Result<Vec<_>>>();
                let mut batch = batch?;
                if batch.is_empty() {
                    return Ok(());
                }
                n_cut += batch.iter().filter(|record| model.is_cut(record)).count();
                for (number, record) in (n_done + 1..).zip(&batch) {
                    model
                        .check(record)
                        .with_context(|| format!("record {number}"))?;
                }
                model.predict(&mut batch)?;
                batch.iter().try_for_each(|record| writer.write(record))?;
                writer.flush()?;
                n_done += batch.len();
            }
        })?;
        if n_cut > 0 {
            eprintln!(
                "warning: {n_cut} of {n_done} records are longer than the model reads; only their beginning was read"
            );
        }
        Ok(())
    }
}

/// A model that says something about records.
pub trait Predict {
    /// Refuses a record without the fields that are needed.
    ///
    /// # Errors
    /// The first field that is missing, or is no text.
    fn check(&self, record: &Record) -> Result<()>;

    /// Whether a record is longer than what the model reads of it.
    fn is_cut(&self, record: &Record) -> bool;

    /// Adds what the model says to checked records.
    ///
    /// # Errors
    /// What the model cannot work with.
    fn predict(&self, records: &mut [Record]) -> Result<()>;
}

/// All rows in a batch; nothing if there are none.
fn one_batch<B: ReformerBackend>(
    rows: &LabelledRows,
    device: &B::Device,
) -> Result<Option<LabelledBatch<B>>> {
    if rows.is_empty() {
        return Ok(None);
    }
    let loader = EvalLoaderConfig::new(1, rows.len()).init_labelled::<B>(rows, device)?;
    Ok(burn::data::dataloader::DataLoader::iter(&loader).next())
}

/// A probability with as many digits as mean something.
fn rounded(probability: f32) -> Value {
    ((f64::from(probability) * DIGITS).round() / DIGITS).into()
}
