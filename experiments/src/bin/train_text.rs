//! Trains a language model on the bytes of a text.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use experiments::allocator::keep_freed_memory;
use experiments::cli::{self, shell_argument};
use experiments::generation::Generator;
use experiments::sampling::Sampler;
use experiments::text::Utf8Writer;
use experiments::training::{Program, TrainArguments, absolute, train};
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::ReformerLm;
use reformer_train::{DataConfig, Run, TrainConfig, write_atomically};

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
  Another model:
    train_text --layers 4 --attention local,lsh,lsh --n-rounds 4 --mode exact
  The same run again, but for one setting:
    train_text --preset runs/my-first/config.json --set model.reformer.dropout=0.2

Presets: tiny (the default; two minutes on two CPU cores), small, base, enwik8-64k.
A run is written to OUT/NAME: config.json, checkpoint/, metrics.csv, report.html (open it in a browser
while it trains), loss.svg, model.mpk, sample.txt.
Values that are not given come from the preset.";

/// What a sample continues.
const PROMPT: &[u8] = b"\n";
const TEMPERATURE: f64 = 0.8;
/// Bytes of a sample after an evaluation: few, since training waits for them.
const SAMPLE_BYTES: usize = 120;

/// Train a Reformer to predict the next byte of a text.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// Text (or any file) to train on: 90 % of it, 5 % validate [default: a sample of Shakespeare]
    #[arg(long, value_name = "PATH", conflicts_with = "resume")]
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

fn main() -> ExitCode {
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
        train(arguments, program)
    })
}

struct Text {
    data: Option<PathBuf>,
    format: Format,
    sample_tokens: usize,
}

impl Program for Text {
    const NAME: &'static str = "train_text";
    const PRESET: &'static str = "tiny";

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

    fn write<B: ReformerBackend>(
        model: &ReformerLm<B>,
        config: &TrainConfig,
        device: &B::Device,
    ) -> Option<String> {
        let generator = Generator::new(model.clone(), config, device.clone());
        let mut sampler = Sampler::new(TEMPERATURE, None, config.seed).ok()?;
        let mut bytes = Vec::new();
        let written = generator.generate(PROMPT, SAMPLE_BYTES, &mut sampler, |byte| {
            bytes.push(byte);
            Ok(())
        });
        written.ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn finish<B: ReformerBackend>(
        &self,
        model: ReformerLm<B>,
        run: &Run,
        device: &B::Device,
    ) -> Result<()> {
        if self.sample_tokens > 0 {
            let generator = Generator::new(model, run.config(), device.clone());
            sample(&generator, run, self.sample_tokens)?;
        }
        println!(
            "\nGo on writing with:\n  {}",
            generate_command(run.folder())
        );
        Ok(())
    }
}

/// Prints a generated text and keeps it.
fn sample<B: ReformerBackend>(generator: &Generator<B>, run: &Run, n_bytes: usize) -> Result<()> {
    let mut bytes = Vec::new();
    let mut writer = Utf8Writer::new(stdout());
    let mut sampler = Sampler::new(TEMPERATURE, None, run.config().seed)?;
    println!("\nA sample:");
    generator.generate(PROMPT, n_bytes, &mut sampler, |byte| {
        bytes.push(byte);
        Ok(writer.push(byte)?)
    })?;
    writer.finish()?;
    writeln!(stdout())?;
    let path = run.folder().join("sample.txt");
    write_atomically(&path, |file| file.write_all(&bytes))
        .with_context(|| format!("`{}` cannot be written", path.display()))
}

fn generate_command(folder: &Path) -> String {
    format!(
        "cargo run --release -p experiments --bin generate_text -- --checkpoint {} --prompt 'ROMEO:'",
        shell_argument(folder)
    )
}
