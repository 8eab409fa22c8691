//! Trains a language model on a text.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::called;
use crate::cli::device::{self, DeviceName, Job};
use crate::cli::{self, shell_argument};
use crate::out::{self, Output};
use crate::training::text::TextArguments;
use crate::training::tokenizing::{TokenArguments, fit_vocabulary};
use crate::training::{TrainArguments, TrainingProgram, train};
use anyhow::{Result, bail};
use clap::Parser;
use reformer_core::generation::SamplerConfig;
use reformer_core::kernels::TrainBackend;
use reformer_train::inference::{GenerationRequest, InferenceError, TextModel, Utf8Writer};
use reformer_train::{DataConfig, Run, TrainConfig};

const EXAMPLES: &str = "\
Examples:
  About a minute on the sample that ships with the project:
    train_text
  Your own file, a larger model, a GPU:
    train_text --data book.txt --preset small --device cuda --name my-first
  Tokens of 8,000 pieces of words instead of bytes:
    train_text --data book.txt --tokenizer bpe:8000 --name pieces
  Texts of a Hugging Face data set, a folder of Parquet files, through the tokenizer of a model there:
    train_text --data tinystories/data --format parquet --column text --tokenizer gpt2/tokenizer.json
  Ids that nanoGPT has prepared (train.bin, and val.bin next to it):
    train_text --data openwebtext/train.bin --format ids16 --tokenizer gpt2/tokenizer.json
  enwik8 as in the literature:
    train_text --data enwik8.zip --format enwik8 --preset enwik8-64k --device cuda
  Resume a run that was stopped or killed:
    train_text --resume runs/my-first
  Another text, from the weights of a run or of a Hugging Face folder:
    train_text --data other.txt --init-from runs/my-first
  Less memory: each step in eight parts, an optimizer with little state:
    train_text --preset small --accumulate 8 --optimizer adafactor
  Another architecture:
    train_text --layers 4 --attention local,lsh,lsh --n-rounds 4 --mode exact
  With curves for TensorBoard (tensorboard --logdir runs):
    train_text --data book.txt --tensorboard
  The same run with one setting changed:
    train_text --preset runs/my-first/config.json --set model.reformer.dropout=0.2

Presets: tiny (the default; about a minute on two CPU cores), small, base, enwik8-64k.
A run is written to OUT/NAME: config.json, checkpoint/, metrics.csv, report.html (open it in a browser
while it trains), samples.jsonl, loss.svg, model.mpk, sample.txt.
Values that are not given come from the preset.";

/// Train a Reformer to predict the next token of a text: a byte, or an entry of a tokenizer's vocabulary.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    data: TextArguments,
    #[command(flatten)]
    tokens: TokenArguments,
    /// Tokens to generate at the end; 0 disables this
    #[arg(long, value_name = "N", default_value_t = 300)]
    sample_tokens: usize,
    #[command(flatten)]
    train: TrainArguments,
}

pub fn main() -> ExitCode {
    cli::program(|arguments: Arguments| {
        let program = Text {
            data: arguments.data,
            tokens: arguments.tokens,
            init_from: arguments.train.init_from.clone(),
            sample_tokens: arguments.sample_tokens,
        };
        train(arguments.train, &program)
    })
}

struct Text {
    data: TextArguments,
    tokens: TokenArguments,
    init_from: Option<PathBuf>,
    sample_tokens: usize,
}

impl TrainingProgram for Text {
    fn name(&self) -> &'static str {
        "train_text"
    }

    fn preset(&self) -> &'static str {
        "tiny"
    }

    fn data(&self, preset: DataConfig) -> Result<DataConfig> {
        let text = self.data.config(preset)?;
        self.tokens.config(text, self.init_from.as_deref())
    }

    fn fit_model(&self, config: &mut TrainConfig) -> Result<()> {
        if config.masking.is_some() {
            let program = called::name("train_masked");
            bail!("this preset is for hidden bytes: use `{program}`, or another preset");
        }
        fit_vocabulary(config, self.init_from.is_some())
    }

    fn finish(&self, run: &Run, device: DeviceName) -> Result<()> {
        if self.sample_tokens > 0 {
            let n_tokens = self.sample_tokens;
            device::run(device, Sample { run, n_tokens })?;
        }
        println!("\nGenerate more text with:\n  {}", generate_command(run));
        Ok(())
    }
}

/// Prints a generated text and saves it.
struct Sample<'a> {
    run: &'a Run,
    n_tokens: usize,
}

impl Job for Sample<'_> {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<()> {
        let Self { run, n_tokens } = self;
        let model = TextModel::<B::InnerBackend>::open(run.folder(), &device)?;
        let beginning = model.codec().beginning();
        let sampler = SamplerConfig::new().with_temperature(0.8);
        let mut bytes = Vec::new();
        let mut writer = Utf8Writer::new(Output::new());
        println!("\nA sample:");
        let request = GenerationRequest::new(beginning, n_tokens, sampler, run.config().seed);
        model.stream(&request, |_, text| {
            bytes.extend_from_slice(text);
            // It is saved even if it cannot be printed.
            text.iter().try_for_each(|&byte| writer.push(byte)).ok();
            Ok::<_, InferenceError>(())
        })?;
        writer.finish().ok();
        let path = run.folder().join("sample.txt");
        out::save(&path, &bytes)?;
        println!("");
        Ok(())
    }
}

fn generate_command(run: &Run) -> String {
    let is_numbers = matches!(&run.config().data, DataConfig::Ids(ids) if ids.tokenizer.is_none());
    format!(
        "{} --checkpoint {} --prompt '{}'",
        called::command("generate_text"),
        shell_argument(run.folder()),
        if is_numbers { "0" } else { "ROMEO:" }
    )
}
