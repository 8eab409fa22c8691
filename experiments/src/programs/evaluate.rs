//! Measures a trained model on its validation data or on other files.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli;
use crate::cli::arguments::{MOST_TOKENS, check_range};
use crate::cli::device::{self, DeviceName, Job};
use crate::cli::interrupt::{self, Stopped};
use crate::inference::scores;
use crate::inference::shipped::Checkpoint;
use crate::inference::translation::BleuArguments;
use crate::measure::memory::check_reading;
use crate::out;
use anyhow::{Result, anyhow, bail};
use clap::Parser;
use reformer_core::huggingface;
use reformer_core::kernels::{ReformerBackend, TrainBackend};
use reformer_datasets::translation::Bleu;
use reformer_train::inference::{InferenceError, Scores, open_hugging_face};
use reformer_train::{Evaluation, Model};

const EXAMPLES: &str = "\
Examples:
  The validation data of a run: the metrics of its last evaluation again, and those of its task:
    evaluate --checkpoint runs/mine
  Another text, all of it:
    evaluate --checkpoint runs/mine --data other.txt --json other.json
  The part of a text, or of a task of the Long Range Arena, that was neither trained nor validated on:
    evaluate --checkpoint runs/listops --test
  Other texts with classes, or other questions:
    evaluate --checkpoint runs/imdb --data aclImdb/test
    evaluate --checkpoint runs/squad --data dev-v1.1.json
  Other sentences, in two line-aligned files:
    evaluate --checkpoint runs/wmt --data test.en test.de --bleu-sentences 3003
  A language model of Hugging Face on a text, in windows of 4,096 tokens:
    evaluate --checkpoint reformer-enwik8 --data other.txt --length 4096

Language models: bits per byte (or dimension); with a tokenizer bits per token and, for comparisons, per byte. Masked ones: the same for hidden bytes. Classifiers: accuracy, that of
always predicting the most frequent class, and the confusion matrix. Questions: exact match and F1 as SQuAD counts them.
Translations: bits per piece, and BLEU as sacreBLEU computes it.";

/// Measure a trained model of any kind.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Folder of a run, or of a language model of Hugging Face [default: the model that ships]
    #[arg(long, value_name = "FOLDER")]
    checkpoint: Option<PathBuf>,
    /// Data to measure on, of the same form as the run's [default: its validation data]; for a model of Hugging Face, a text
    #[arg(long, value_name = "PATH", num_args = 1..=2)]
    data: Vec<PathBuf>,
    /// Measure on the part of the run's data that is kept for the test
    #[arg(long, conflicts_with = "data")]
    test: bool,
    /// Sequences to measure on, from the first [default: those of the run's evaluations; all of --data or --test]
    #[arg(long, value_name = "N")]
    eval_windows: Option<usize>,
    /// Tokens of a sequence, with a model of Hugging Face [default: as many as it has positions for, or the text tokens]
    #[arg(long, value_name = "N")]
    length: Option<usize>,
    /// Write the numbers to this file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Backend to compute on
    #[arg(long, value_enum, default_value = "flex")]
    device: DeviceName,
    #[command(flatten)]
    bleu: BleuArguments,
}

pub fn main() -> ExitCode {
    cli::program(|arguments: Arguments| {
        arguments.bleu.beam.config()?;
        device::run(arguments.device, arguments)
    })
}

/// Opens the model and its data.
fn open<B: ReformerBackend>(arguments: &Arguments, device: &B::Device) -> Result<Evaluation<B>> {
    let named = arguments.checkpoint.as_deref();
    if let Some(folder) = named.filter(|folder| huggingface::head(folder).is_some()) {
        return match &arguments.data[..] {
            [text] => open_text::<B>(folder, text, arguments, device),
            texts => bail!(
                "the model in `{}` is one of Hugging Face, measured on one text, and {} were given: name it by `--data`",
                folder.display(),
                texts.len()
            ),
        };
    }
    let is_there = named.is_none_or(Path::exists);
    if let Some(length) = arguments.length.filter(|_| is_there) {
        bail!(
            "`--length` is {length}, but a run is measured in sequences of its own length: leave it out"
        );
    }
    let checkpoint = Checkpoint::open(named)?;
    let folder = checkpoint.path();
    Ok(match arguments.test {
        true => Evaluation::open_test(folder, device)?,
        false => Evaluation::open(folder, &arguments.data, device)?,
    })
}

/// Opens a model of Hugging Face and a text, if windows of it fit into memory.
fn open_text<B: ReformerBackend>(
    folder: &Path,
    text: &Path,
    arguments: &Arguments,
    device: &B::Device,
) -> Result<Evaluation<B>> {
    let opened = open_hugging_face(folder, text, arguments.length, device);
    let evaluation = opened.map_err(|error| match error {
        // The setting is a flag here.
        InferenceError::Config(_) | InferenceError::ShortText { .. } => {
            anyhow!(error.to_string().replace("`length`", "`--length`"))
        }
        other => other.into(),
    })?;
    if let Model::Lm(model) = &evaluation.model {
        let config = evaluation.config();
        let (length, n_rows) = (config.window_length, config.batch_size);
        let limit = [&*format!("windows of {length} tokens"), "lower `--length`"];
        check_reading(&model.reformer, n_rows * length, arguments.device, limit)?;
    }
    Ok(evaluation)
}

impl Job for Arguments {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<()> {
        if let Some(n) = self.eval_windows {
            check_range("--eval-windows", n, MOST_TOKENS)?;
        }
        let json = self.json.as_deref();
        out::check_output("--json", json, &self.data)?;
        let evaluation = open::<B::InnerBackend>(&self, &device)?;
        if self.data.is_empty() {
            out::check_not_read("--json", json, evaluation.config().data.paths())?;
        }
        let evaluation = evaluation.with_first(self.eval_windows);
        println!("Data: {}", evaluation.data_report().valid);
        let n = evaluation.n_sequences(&device)?;
        let length = evaluation.config().window_length;
        println!("Measuring on {n} sequences of at most {length} tokens");
        let interrupter = interrupt::stops_measuring()?;
        let mut n_done = 0;
        let (mut scores, _) = scores::measure(&evaluation, &device, |done, _| {
            n_done = done;
            match interrupter.should_stop() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        let is_stopped = interrupter.should_stop();
        if is_stopped {
            scores.stopped_after = Some(n_done);
            println!("Stopped after {n_done} of {n} sequences; the results cover these only:");
        }
        if !scores.loss.is_finite() {
            bail!(
                "the loss is {}: the weights are damaged, or the training diverged",
                scores.loss
            );
        }
        println!("{} on {scores}", scores.model);
        let keep = |scores: &Scores| -> Result<()> {
            let Some(path) = &self.json else {
                return Ok(());
            };
            let json = serde_json::to_vec_pretty(scores)?;
            out::save(path, &json)
        };
        if let (Model::Seq2Seq(model), Some(pairs)) = (&evaluation.model, evaluation.pairs())
            && self.bleu.bleu_sentences > 0
            && !is_stopped
        {
            // Scores so far are written first: translating takes longer, and Ctrl-C ends it.
            keep(&scores)?;
            interrupt::end_at_once();
            let batch_size = evaluation.config().batch_size;
            let scored = self.bleu.score(model, pairs, batch_size)?;
            println!(
                "{} sentences, beam of {}: {}\n{}",
                scored.sentences.len(),
                self.bleu.beam.size,
                scored.bleu,
                Bleu::SIGNATURE
            );
            scores.bleu = Some(scored.bleu.score);
        }
        keep(&scores)?;
        match is_stopped {
            true => Err(Stopped.into()),
            false => Ok(()),
        }
    }
}
