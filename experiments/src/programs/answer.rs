//! Answers questions about texts with a trained model.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli;
use crate::cli::device::{self, Job};
use crate::cli::input::Lines;
use crate::cli::progress::loading;
use crate::inference::prediction::{InputFormat, PredictArguments, Record, Records};
use crate::out;
use anyhow::Result;
use clap::Parser;
use reformer_core::kernels::TrainBackend;
use reformer_train::inference::Answerer;

const EXAMPLES: &str = "\
Examples:
  answer --checkpoint runs/qa-1 --question 'Who is king?' --context 'The king of Spain is Felipe.'
  Several questions about a file:
    answer --checkpoint runs/squad --context-file book.txt --question 'Who?' --question 'Where?'
  A table with columns question and context, or JSON lines with these fields; other fields are kept:
    answer --checkpoint runs/squad --input questions.csv --output answers.csv
  The questions of a file of SQuAD, whose answers are not used:
    answer --checkpoint runs/squad --input dev-v2.0.json

Each record gets the answer (null if the text has none), its probability, and its position in the text, in
characters.";

/// Answer questions about texts with a model that train_qa has trained, or with a Hugging Face model.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Question to answer; may be given several times
    #[arg(long, value_name = "TEXT", conflicts_with = "input")]
    question: Vec<String>,
    /// Text that the questions are about
    #[arg(
        long,
        value_name = "TEXT",
        requires = "question",
        conflicts_with = "context_file"
    )]
    context: Option<String>,
    /// File with the text that the questions are about
    #[arg(long, value_name = "FILE", requires = "question")]
    context_file: Option<PathBuf>,
    #[command(flatten)]
    predict: PredictArguments,
}

pub fn main() -> ExitCode {
    cli::program(|arguments: Arguments| device::run(arguments.predict.device, arguments))
}

impl Job for Arguments {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<()> {
        let predict = &self.predict;
        predict.check()?;
        out::check_not_read("--output", predict.output.as_deref(), &self.context_file)?;
        let open = || Answerer::<B::InnerBackend>::open(&predict.checkpoint, &device);
        let model = loading(open)?;
        let records = match self.question.is_empty() {
            true => predict.records("question", InputFormat::Jsonl)?,
            false => asked(&self)?,
        };
        predict.predict(records, &model)
    }
}

/// The questions of the command line, each with the given text or that of the file.
fn asked(arguments: &Arguments) -> Result<Records> {
    let context = match &arguments.context {
        Some(context) => context.clone(),
        None => Lines::open(arguments.context_file.as_deref())?.rest()?,
    };
    let records: Vec<Record> = arguments
        .question
        .iter()
        .map(|question| {
            let mut record = Record::of_text("question", question);
            record.set("context", context.as_str());
            record
        })
        .collect();
    Ok(Box::new(records.into_iter().map(Ok)))
}
