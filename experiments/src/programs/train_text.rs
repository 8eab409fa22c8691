//! Trains a language model on the bytes of a text.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::allocator::keep_freed_memory;
use crate::cli::{self, shell_argument};
use crate::device::{self, DeviceName, Job};
use crate::generation::{TextModel, Wish};
use crate::text::Utf8Writer;
use crate::training::{Program, TrainArguments, absolute, train};
use anyhow::{Context, Result, bail};
use burn::tensor::backend::AutodiffBackend;
use clap::{Parser, ValueEnum};
use reformer_core::generation::SamplerConfig;
use reformer_core::kernels::ReformerBackend;
use reformer_train::{DataConfig, Run, load_model, write_atomically};

const EXAMPLES: &str = "\
Examples:
  Two minutes on the sample that ships with the project:
    train_text
  Your own file, a larger model, a GPU:
    train_text --data book.txt --preset small --device cuda --name my-first
  enwik8 as in the literature:
    train_text --data enwik8.zip --format enwik8 --preset enwik8-64k --device cuda
  Go on with a run that was stopped or killed:
    train_text --resume runs/my-first
  Less memory: each step in eight parts, an optimizer that remembers little:
    train_text --preset small --accumulate 8 --optimizer adafactor
  Another model:
    train_text --layers 4 --attention local,lsh,lsh --n-rounds 4 --mode exact
  The same run again, but for one setting:
    train_text --preset runs/my-first/config.json --set model.reformer.dropout=0.2

Presets: tiny (the default; two minutes on two CPU cores), small, base, enwik8-64k.
A run is written to OUT/NAME: config.json, checkpoint/, metrics.csv, report.html (open it in a browser
while it trains), samples.jsonl, loss.svg, model.mpk, sample.txt.
Values that are not given come from the preset.";

/// Train a Reformer to predict the next byte of a text.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// Text (or any file) to train on: 90 % of it, 5 % validate [default: a sample of Shakespeare]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["resume", "join"])]
    data: Option<PathBuf>,
    /// What --data is
    #[arg(long, value_enum, default_value = "bytes", requires = "data")]
    format: Format,
    /// Bytes of text to generate at the end; 0 for none
    #[arg(long, value_name = "N", default_value_t = 300)]
    sample_tokens: usize,
    #[command(flatten)]
    train: TrainArguments,
}

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A file, or a folder of files, as it is.
    Bytes,
    /// The official file, raw or packed.
    Enwik8,
    /// The official file, raw or packed.
    Text8,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let Arguments {
        data,
        format,
        sample_tokens,
        train: arguments,
    } = Arguments::parse();
    keep_freed_memory();
    cli::main(|| {
        let program = Text {
            data,
            format,
            sample_tokens,
        };
        train(arguments, &program)
    })
}

struct Text {
    data: Option<PathBuf>,
    format: Format,
    sample_tokens: usize,
}

impl Program for Text {
    fn name(&self) -> &'static str {
        "train_text"
    }

    fn preset(&self) -> &'static str {
        "tiny"
    }

    fn data(&self, preset: DataConfig) -> Result<DataConfig> {
        let Some(path) = &self.data else {
            if !preset.is_text() {
                bail!("this preset is not for texts: use another one, or name a text by --data");
            }
            return Ok(preset);
        };
        let path = absolute(path)?;
        Ok(match self.format {
            Format::Bytes if path.is_dir() => DataConfig::Folder(path),
            Format::Bytes => DataConfig::File(path),
            Format::Enwik8 => DataConfig::Enwik8(path),
            Format::Text8 => DataConfig::Text8(path),
        })
    }

    fn finish(&self, run: &Run, device: DeviceName) -> Result<()> {
        if self.sample_tokens > 0 {
            let n_bytes = self.sample_tokens;
            device::run(device, Sample { run, n_bytes })?;
        }
        println!(
            "\nGo on writing with:\n  {}",
            generate_command(run.folder())
        );
        Ok(())
    }
}

/// Prints a generated text and keeps it.
struct Sample<'a> {
    run: &'a Run,
    n_bytes: usize,
}

impl Job for Sample<'_> {
    fn run<B>(self, device: B::Device) -> Result<()>
    where
        B: AutodiffBackend + ReformerBackend,
        B::InnerBackend: ReformerBackend,
    {
        let Self { run, n_bytes } = self;
        let (model, config) = load_model::<B::InnerBackend>(run.folder(), &device)?;
        let model = TextModel::of_run(model.into_lm()?, &config);
        let sampler = SamplerConfig::new().with_temperature(0.8);
        let mut bytes = Vec::new();
        let mut writer = Utf8Writer::new(stdout());
        println!("\nA sample:");
        let wish = Wish::new("\n", n_bytes, sampler, config.seed);
        model.write_on(&wish, |_, text| {
            bytes.extend_from_slice(text);
            text.iter().try_for_each(|&byte| writer.push(byte))?;
            Ok(())
        })?;
        writer.finish()?;
        writeln!(stdout())?;
        let path = run.folder().join("sample.txt");
        write_atomically(&path, |file| file.write_all(&bytes))
            .with_context(|| format!("`{}` cannot be written", path.display()))
    }
}

fn generate_command(folder: &Path) -> String {
    format!(
        "cargo run --release -p experiments --bin generate_text -- --checkpoint {} --prompt 'ROMEO:'",
        shell_argument(folder)
    )
}
