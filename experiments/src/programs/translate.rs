//! Translates with a trained model.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::allocator::keep_freed_memory;
use crate::arguments::BeamArguments;
use crate::cli;
use crate::device::{self, DeviceName, Job};
use crate::progress::waiting;
use crate::translation::{Translator, translation_bar};
use anyhow::{Context, Result, anyhow, bail};
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use indicatif::ProgressBar;
use reformer_core::kernels::ReformerBackend;
use reformer_train::{load_model, load_subwords, write_atomically};

const EXAMPLES: &str = "\
Examples:
  translate --checkpoint runs/translation-1 --text 'He is at home.'
  What is typed, line by line:
    translate --checkpoint runs/translation-1
  A file, with a wider beam:
    translate --checkpoint runs/translation-1 --input news.en --output news.de --beam 8
  In a pipeline that waits for each answer:
    ... | translate --checkpoint runs/translation-1 --batch 1 | ...

A line is a sentence, and its translation is one; empty lines stay empty. A run that is not finished is
read from its newest checkpoint.";

/// Batches of a file that are sorted by length together.
const BATCHES_AT_ONCE: usize = 16;

/// Translate sentences with a model that train_translation has trained.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
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
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch: usize,
    /// Where to compute
    #[arg(long, value_enum, default_value = "flex")]
    device: DeviceName,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    keep_freed_memory();
    cli::main(|| {
        let device = arguments.device;
        device::run(device, Translate(arguments))
    })
}

struct Translate(Arguments);

impl Job for Translate {
    fn run<B>(self, device: B::Device) -> Result<()>
    where
        B: AutodiffBackend + ReformerBackend,
        B::InnerBackend: ReformerBackend,
    {
        let Self(arguments) = self;
        if arguments.batch == 0 {
            bail!("`--batch` is 0, but it must be at least 1: raise it");
        }
        let mut lines = Lines::open(&arguments)?;
        let folder = &arguments.checkpoint;
        let (model, subwords) = {
            let _waiting = waiting("Loading the model");
            let (model, _) = load_model::<B::InnerBackend>(folder, &device)?;
            (model.into_seq2seq()?, load_subwords(folder)?)
        };
        let beam = arguments.beam.config();
        let translator = Translator::new(&model, &subwords, beam, arguments.batch)?;
        match &arguments.output {
            None => lines.translate(&translator, &mut stdout().lock()),
            Some(path) => {
                let mut translated = Ok(());
                let written = write_atomically(path, |file| {
                    translated = lines.translate(&translator, file);
                    match translated {
                        Ok(()) => Ok(()),
                        Err(_) => Err(io::ErrorKind::Other.into()),
                    }
                });
                // What went wrong inside is the cause.
                translated?;
                written.with_context(|| format!("`{}` cannot be written", path.display()))
            }
        }
    }
}

/// Sentences to translate, one in a line.
struct Lines {
    /// What they are called in errors.
    name: String,
    reader: Box<dyn BufRead>,
    at_once: usize,
    bar: ProgressBar,
    n_read: usize,
}

impl Lines {
    fn open(arguments: &Arguments) -> Result<Self> {
        let many = BATCHES_AT_ONCE.saturating_mul(arguments.batch);
        let lines = |name: String, reader: Box<dyn BufRead>, at_once| Self {
            name,
            reader,
            at_once,
            bar: ProgressBar::hidden(),
            n_read: 0,
        };
        if !arguments.text.is_empty() {
            // A line each, whatever is in them.
            let text = arguments.text.iter().map(|text| one_line(text) + "\n");
            let text = io::Cursor::new(text.collect::<String>());
            return Ok(lines("--text".to_owned(), Box::new(text), many));
        }
        let Some(path) = &arguments.input else {
            // An answer to each line that somebody types.
            let at_once = if stdin().is_terminal() {
                1
            } else {
                arguments.batch
            };
            let reader = Box::new(stdin().lock());
            return Ok(lines("the standard input".to_owned(), reader, at_once));
        };
        let cannot = || format!("`{}` cannot be read", path.display());
        let n_lines = count_lines(path).with_context(cannot)?;
        let file = BufReader::new(File::open(path).with_context(cannot)?);
        let lines = lines(format!("`{}`", path.display()), Box::new(file), many);
        Ok(Self {
            bar: translation_bar(n_lines),
            ..lines
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
            let bar = &self.bar;
            for translation in translator.translate_pieces(&sources, |n| bar.inc(n as u64))? {
                writeln!(output, "{translation}")?;
            }
            output.flush()?;
        }
    }

    /// The pieces of the next lines; none at the end.
    fn next<B: ReformerBackend>(&mut self, translator: &Translator<B>) -> Result<Vec<Vec<u32>>> {
        let mut sources = Vec::new();
        let mut line = Vec::new();
        while sources.len() < self.at_once {
            line.clear();
            let read = self.reader.read_until(b'\n', &mut line);
            if read.with_context(|| format!("{} cannot be read", self.name))? == 0 {
                break;
            }
            self.n_read += 1;
            let line = str::from_utf8(&line).map_err(|_| anyhow!("it is no UTF-8: convert it"));
            let pieces = line.and_then(|line| translator.read(line.trim_end_matches(['\n', '\r'])));
            sources.push(pieces.with_context(|| format!("line {} of {}", self.n_read, self.name))?);
        }
        Ok(sources)
    }
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn count_lines(path: &Path) -> io::Result<usize> {
    let mut reader = BufReader::new(File::open(path)?);
    let (mut n, mut ends) = (0, true);
    loop {
        let part = reader.fill_buf()?;
        let Some(&last) = part.last() else {
            return Ok(n + usize::from(!ends));
        };
        n += part.iter().filter(|&&byte| byte == b'\n').count();
        ends = last == b'\n';
        let length = part.len();
        reader.consume(length);
    }
}
