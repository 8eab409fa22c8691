//! Classifies texts with a trained model.

use std::process::ExitCode;

use crate::cli;
use crate::cli::device::{self, Job};
use crate::cli::progress::loading;
use crate::inference::prediction::{InputFormat, PredictArguments, Record, Records};
use anyhow::Result;
use clap::Parser;
use reformer_core::kernels::TrainBackend;
use reformer_train::inference::Classifier;

const EXAMPLES: &str = "\
Examples:
  classify --checkpoint runs/classifier-1 --text 'Thou art a villain.'
  A file with a text in each line, as a table:
    classify --checkpoint runs/mine --input reviews.txt --output classes.csv
  The column text of a table, or the field text of JSON lines; other ones are kept:
    classify --checkpoint runs/mine --input reviews.csv --output classes.jsonl
  One long text:
    classify --checkpoint runs/mine --input book.txt --format whole
  Lines from the terminal or a pipe:
    classify --checkpoint runs/mine

  Lists, or two papers with a tab between them, if the run is of a task of the Long Range Arena:
    classify --checkpoint runs/listops --text '[MAX 4 [MIN 7 2 ] 0 ]'

Each text gets its class, the probability of that class, and the probabilities of all classes.";

/// Classify texts with a model that train_classifier has trained, or with a Hugging Face model.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Text to classify; may be given several times
    #[arg(long, value_name = "TEXT", conflicts_with = "input")]
    text: Vec<String>,
    #[command(flatten)]
    predict: PredictArguments,
}

pub fn main() -> ExitCode {
    cli::program(|arguments: Arguments| device::run(arguments.predict.device, arguments))
}

impl Job for Arguments {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<()> {
        let Self { text, predict } = self;
        predict.check()?;
        let open = || Classifier::<B::InnerBackend>::open(&predict.checkpoint, &device);
        let model = loading(open)?;
        let records: Records = match text.is_empty() {
            true => predict.records("text", InputFormat::Lines)?,
            false => Box::new(
                text.into_iter()
                    .map(|text| Ok(Record::of_text("text", text))),
            ),
        };
        predict.predict(records, &model)
    }
}
