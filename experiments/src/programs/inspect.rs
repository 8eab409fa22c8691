//! Shows how LSH attention hashes a text.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli;
use crate::cli::arguments::{MOST_TOKENS, check_most};
use crate::cli::device::{self, DeviceName, Job};
use crate::cli::input::without_mark;
use crate::cli::progress::waiting;
use crate::inference::inspection::{Inspection, Layer};
use crate::inference::shipped::Checkpoint;
use crate::out;
use anyhow::{Context, Result, bail};
use clap::Parser;
use reformer_core::kernels::{ReformerBackend, TrainBackend};
use reformer_train::inference::TextModel;

const EXAMPLES: &str = "\
Examples:
  inspect --checkpoint runs/small-1 --input chapter.txt
  The beginning of a longer text, also as JSON:
    inspect --checkpoint runs/small-1 --input book.txt --tokens 2000 --json buckets.json

The page is self-contained. Point at a token: it shows the tokens in the same bucket in each round, the keys it
attends to, and the share of full attention that it finds.";

/// Longest token in bytes: pieces are words and parts of them.
const MOST_TOKEN_BYTES: u64 = 64;

/// Show buckets, attention and coverage of a text in the LSH layers of a model.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Folder of the run, or of a Hugging Face model [default: the model that ships]
    #[arg(long, value_name = "FOLDER")]
    checkpoint: Option<PathBuf>,
    /// File with the text
    #[arg(long, alias = "text", value_name = "FILE")]
    input: PathBuf,
    /// Number of tokens to inspect, from the beginning
    #[arg(long, value_name = "N", default_value_t = 512)]
    tokens: usize,
    /// Largest attention weights to keep for each position
    #[arg(long, value_name = "N", default_value_t = 16)]
    weights: usize,
    /// HTML page to write
    #[arg(long, value_name = "FILE", default_value = "inspect.html")]
    html: PathBuf,
    /// JSON file to write
    #[arg(long, value_name = "FILE", default_value = "inspect.json")]
    json: PathBuf,
    /// Backend to compute on
    #[arg(long, value_enum, default_value = "flex")]
    device: DeviceName,
}

pub fn main() -> ExitCode {
    cli::program(|arguments: Arguments| device::run(arguments.device, arguments))
}

impl Job for Arguments {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<()> {
        let path = &self.input;
        check_most("--tokens", self.tokens, MOST_TOKENS)?;
        let outputs = [("--html", &*self.html), ("--json", &*self.json)];
        for (flag, output) in outputs {
            out::check_output(flag, Some(output), [path])?;
        }
        out::check_apart(outputs)?;
        let text = start(path, MOST_TOKEN_BYTES * self.tokens as u64)
            .with_context(|| format!("`{}` cannot be read", path.display()))?;
        let checkpoint = Checkpoint::open(self.checkpoint.as_deref())?;
        let inspection = {
            let _waiting = waiting("Inspecting");
            let model = TextModel::<B::InnerBackend>::open(checkpoint.path(), &device)?;
            inspect(&model, &text, &self)?
        };
        let title = format!("{} in {checkpoint}", path.display());
        out::save(&self.html, inspection.page(&title)?.as_bytes())?;
        out::save(&self.json, &serde_json::to_vec(&inspection)?)?;
        println!("{}", inspection.summary());
        println!(
            "Written to {} and {}",
            self.html.display(),
            self.json.display()
        );
        Ok(())
    }
}

/// The beginning of a text, without its byte order mark and without `\r` at the ends of
/// lines.
fn start(path: &Path, n_bytes: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(n_bytes).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(without_mark(&text).replace("\r\n", "\n"))
}

fn inspect<B: ReformerBackend>(
    model: &TextModel<B>,
    text: &str,
    arguments: &Arguments,
) -> Result<Inspection> {
    let mut tokens = model.codec().encode(text)?;
    tokens.truncate(arguments.tokens);
    if tokens.is_empty() {
        bail!("there is nothing to inspect: give a text, and `--tokens` of at least 1");
    }
    let inspected = model.inspect(&tokens)?;
    if inspected.is_empty() {
        bail!("the model has no LSH layer, so there are no buckets to inspect");
    }
    let mut spelled = Vec::new();
    let mut stream = model.codec().stream(&[]);
    for &token in &tokens {
        spelled.push(String::from_utf8_lossy(&stream.push(token)?).into_owned());
    }
    let layer = |(number, heads)| Layer::new(number, heads, arguments.weights);
    Ok(Inspection {
        tokens: spelled,
        layers: inspected.into_iter().map(layer).collect(),
    })
}
