//! Applies trained models to unlabelled texts: classifies them, or answers questions about them.

mod models;
mod records;
mod table;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::cli::arguments::{MOST_ROWS, check_range};
use crate::cli::device::DeviceName;
use crate::cli::input::{Lines, lines_at_once};
use crate::out;

pub(crate) use records::{InputFormat, Record, Records};
pub(crate) use table::{OutputFormat, RecordWriter};

/// Flags of programs that apply a model.
#[derive(Debug, Args)]
pub(crate) struct PredictArguments {
    /// Folder of the run, or of a Hugging Face model
    #[arg(long, value_name = "FOLDER")]
    pub(crate) checkpoint: PathBuf,
    /// File to read [default: the standard input]
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Format of the input [default: from the file's name]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) format: Option<InputFormat>,
    /// File to write [default: the standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Format of the output [default: a table if the file's name ends with .csv, else jsonl]
    #[arg(long = "as", value_enum, value_name = "FORMAT")]
    pub(crate) output_format: Option<OutputFormat>,
    /// Records in a batch
    #[arg(long, alias = "batch", value_name = "N", default_value_t = 16)]
    pub(crate) batch_size: usize,
    /// Backend to compute on
    #[arg(long, value_enum, default_value = "flex")]
    pub(crate) device: DeviceName,
}

impl PredictArguments {
    /// Checks the flags.
    pub(crate) fn check(&self) -> Result<()> {
        check_range("--batch-size", self.batch_size, MOST_ROWS)?;
        out::check_output("--output", self.output.as_deref(), &self.input)
    }

    /// The records of the input; plain texts are stored in `field`.
    pub(crate) fn records(&self, field: &'static str, default: InputFormat) -> Result<Records> {
        let path = self.input.as_deref();
        let of_path = || path.and_then(InputFormat::of_path);
        let format = self.format.or_else(of_path).unwrap_or(default);
        let name = match path {
            Some(path) => format!("`{}`", path.display()),
            None => "the standard input".to_owned(),
        };
        format.read(Lines::open(path)?, field).context(name)
    }

    /// Writes the model's output for each record, in order, batch by batch.
    pub(crate) fn predict(&self, records: Records, model: &impl Predict) -> Result<()> {
        let at_once = lines_at_once(self.input.as_deref(), self.batch_size);
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

/// A model that adds fields to records.
pub(crate) trait Predict {
    /// Checks that a record has the fields that the model needs.
    fn check(&self, record: &Record) -> Result<()>;

    /// Whether a record is longer than the model reads.
    fn is_cut(&self, record: &Record) -> bool;

    /// Adds the model's output to checked records.
    fn predict(&self, records: &mut [Record]) -> Result<()>;
}
