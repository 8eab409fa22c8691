//! Translates with a trained model.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli;
use crate::cli::arguments::{BeamArguments, MOST_ROWS, check_range};
use crate::cli::device::{self, DeviceName, Job};
use crate::cli::input::{Lines, count_lines, lines_at_once};
use crate::cli::progress::loading;
use crate::inference::translation::translation_bar;
use crate::measure::memory::{DecodingSize, check_continuing};
use crate::out;
use anyhow::{Context, Result};
use clap::Parser;
use indicatif::ProgressBar;
use reformer_core::kernels::{ReformerBackend, TrainBackend};
use reformer_train::inference::Translator;

const EXAMPLES: &str = "\
Examples:
  translate --checkpoint runs/translation-1 --text 'He is at home.'
  Lines from the terminal:
    translate --checkpoint runs/translation-1
  A file, with a wider beam:
    translate --checkpoint runs/translation-1 --input news.en --output news.de --beam-size 8
  In a pipeline that waits for each answer:
    ... | translate --checkpoint runs/translation-1 --batch-size 1 | ...

Each line is a sentence and is translated to one line; empty lines stay empty. A run that is not finished is
read from its newest checkpoint.";

/// Number of batches of a file that are sorted by length together.
const BATCHES_AT_ONCE: usize = 16;

/// Translate sentences with a model that train_translation has trained.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Folder of the run
    #[arg(long, value_name = "FOLDER")]
    checkpoint: PathBuf,
    /// Sentence to translate; may be given several times
    #[arg(long, value_name = "TEXT", conflicts_with = "input")]
    text: Vec<String>,
    /// File to translate line by line [default: the standard input]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// File to write [default: the standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    beam: BeamArguments,
    /// Sentences at a time
    #[arg(long, alias = "batch", value_name = "N", default_value_t = 32)]
    batch_size: usize,
    /// Backend to compute on
    #[arg(long, value_enum, default_value = "flex")]
    device: DeviceName,
}

pub fn main() -> ExitCode {
    cli::program(|arguments: Arguments| device::run(arguments.device, arguments))
}

impl Job for Arguments {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<()> {
        check_range("--batch-size", self.batch_size, MOST_ROWS)?;
        let beam = self.beam.config()?;
        out::check_output("--output", self.output.as_deref(), &self.input)?;
        let mut sentences = Sentences::open(&self)?;
        let translator = loading(|| {
            let folder = &self.checkpoint;
            Translator::<B::InnerBackend>::open(folder, beam, self.batch_size, &device)
        })?;
        out::write_to(self.output.as_deref(), |output| {
            sentences.translate(&translator, output)
        })
    }
}

impl Arguments {
    /// Checks that the hypotheses of a batch fit into memory.
    fn check_memory<B: ReformerBackend>(
        &self,
        translator: &Translator<B>,
        sources: &[Vec<u32>],
    ) -> Result<()> {
        let longest = sources.iter().map(Vec::len).max();
        let Some(longest) = longest.filter(|n_pieces| *n_pieces > 0) else {
            // Empty lines are not translated.
            return Ok(());
        };
        let n_rows = sources.len().min(self.batch_size) * self.beam.size;
        let size = DecodingSize {
            n_rows,
            length: translator.max_pieces(longest),
            cache_bytes: translator.cache_bytes(n_rows, longest),
            vocab_size: translator.vocab_size(),
        };
        check_continuing(size, self.device, "lower `--batch-size` or `--beam-size`")
    }
}

/// Sentences to translate, one per line.
struct Sentences<'a> {
    arguments: &'a Arguments,
    lines: Lines,
    at_once: usize,
    bar: ProgressBar,
}

impl<'a> Sentences<'a> {
    fn open(arguments: &'a Arguments) -> Result<Self> {
        let many = BATCHES_AT_ONCE * arguments.batch_size;
        let (path, text) = (arguments.input.as_deref(), &arguments.text);
        let (lines, at_once) = match path {
            _ if !text.is_empty() => (Lines::of_texts("--text", text), many),
            Some(_) => (Lines::open(path)?, many),
            // At a terminal each line is answered at once.
            None => (
                Lines::open(path)?,
                lines_at_once(path, arguments.batch_size),
            ),
        };
        let n_lines = path.map(count_lines).transpose()?.flatten();
        Ok(Self {
            arguments,
            lines,
            at_once,
            bar: n_lines.map_or_else(ProgressBar::hidden, translation_bar),
        })
    }

    fn translate<B: ReformerBackend>(
        &mut self,
        translator: &Translator<B>,
        output: &mut dyn Write,
    ) -> Result<()> {
        loop {
            let sources = self.next(translator)?;
            if sources.is_empty() {
                self.bar.finish_and_clear();
                return Ok(());
            }
            self.arguments.check_memory(translator, &sources)?;
            let bar = &self.bar;
            for translation in translator.translate_pieces(&sources, |n| bar.inc(n as u64))? {
                writeln!(output, "{translation}")?;
            }
            output.flush()?;
        }
    }

    /// The pieces of the next lines; none at the end of the input.
    fn next<B: ReformerBackend>(&mut self, translator: &Translator<B>) -> Result<Vec<Vec<u32>>> {
        let mut sources = Vec::new();
        while sources.len() < self.at_once
            && let Some(line) = self.lines.next()
        {
            let pieces = translator.encode(&line?);
            sources.push(pieces.with_context(|| self.lines.place())?);
        }
        Ok(sources)
    }
}
