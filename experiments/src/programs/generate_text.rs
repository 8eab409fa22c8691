//! Continues texts with a trained model.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli;
use crate::cli::arguments::{
    MOST_ROWS, MOST_TOKENS, SamplerArguments, beam, check_most, check_range, finite,
};
use crate::cli::device::{self, DeviceName, Job};
use crate::cli::progress::{loading, waiting};
use crate::inference::shipped::Checkpoint;
use crate::measure::memory::{DecodingSize, check_continuing, check_reading};
use crate::out::Output;
use anyhow::{Context, Result, bail};
use clap::Parser;
use reformer_core::generation::BeamConfig;
use reformer_core::kernels::{ReformerBackend, TrainBackend};
use reformer_train::inference::{Cost, GenerationRequest, TextModel, Utf8Writer};

const EXAMPLES: &str = "\
Examples:
  With the model that ships:
    generate_text --prompt 'ROMEO:'
  With your own:
    generate_text --checkpoint runs/tiny-1 --prompt 'ROMEO:'
  Always the most probable byte:
    generate_text --checkpoint runs/tiny-1 --prompt 'ROMEO:' --temperature 0
  Another text, less random, that ends with the speech:
    generate_text --checkpoint runs/tiny-1 --prompt 'ROMEO:' --seed 2 --top-p 0.9 --stop $'\\n\\n'
  Three continuations of each of two prompts:
    generate_text --checkpoint runs/tiny-1 --prompt 'ROMEO:' --prompt 'JULIET:' --samples 3
  The best continuation by beam search with eight hypotheses:
    generate_text --checkpoint runs/tiny-1 --prompt 'ROMEO:' --tokens 40 --beam-size 8
  The continuation of a whole file, however long, with the time that reading it took:
    generate_text --checkpoint runs/tiny-1 --prompt-file novel.txt --verbose
  A model of Hugging Face, with its config.json, weights and, if it has one, spiece.model or tokenizer.json:
    generate_text --checkpoint reformer-crime-and-punishment --prompt 'A few months later'
  A model of ids without their tokenizer: it reads and writes ids:
    generate_text --checkpoint runs/ids --prompt '464 3290'

A run that is not finished is read from its newest checkpoint.";

/// Continue texts with a model that train_text has trained, or with a Hugging Face model.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Folder of the run, or of a Hugging Face model [default: the model that ships]
    #[arg(long, value_name = "FOLDER")]
    checkpoint: Option<PathBuf>,
    /// Text to continue; may be given several times
    #[arg(long, value_name = "TEXT", required_unless_present = "prompt_files")]
    prompt: Vec<String>,
    /// File with a text to continue, byte by byte as it is, or `-` for the standard input; may be given
    /// several times
    #[arg(long = "prompt-file", value_name = "FILE")]
    prompt_files: Vec<PathBuf>,
    /// Tokens to generate: bytes, or the pieces of the model's tokenizer. Memory for all of them has to be free, even if
    /// `--stop` ends earlier
    #[arg(long, value_name = "N", default_value_t = 500)]
    tokens: usize,
    /// Continuations of each prompt
    #[arg(long, alias = "batch", value_name = "N", default_value_t = 1)]
    samples: usize,
    /// Stop before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    #[command(flatten)]
    sampler: SamplerArguments,
    /// Search for the most probable continuations (beam search) with this many hypotheses, instead of sampling
    #[arg(
        long,
        alias = "beam",
        value_name = "N",
        conflicts_with_all = ["samples", "stop"],
        help_heading = "Beam search"
    )]
    beam_size: Option<usize>,
    /// Exponent of the length penalty of the search; 0 compares plain probabilities
    #[arg(
        long,
        value_name = "ALPHA",
        default_value_t = 0.6,
        value_parser = finite,
        help_heading = "Beam search"
    )]
    length_penalty: f64,
    /// Report how long reading and generating took, and how much memory the cache takes
    #[arg(long, conflicts_with = "beam_size")]
    verbose: bool,
    /// Backend to compute on
    #[arg(long, value_enum, default_value = "flex")]
    device: DeviceName,
}

impl Arguments {
    /// The beam search, if one is asked for.
    ///
    /// # Errors
    /// The first of its settings that cannot work.
    fn beam(&self) -> Result<Option<BeamConfig>> {
        let beam = self.beam_size.map(|n| beam(n, self.length_penalty));
        beam.transpose()
    }

    /// Checks that all continuations at a time fit into memory. A prompt has as many tokens as bytes, or fewer.
    fn check_memory<B: ReformerBackend>(
        &self,
        model: &TextModel<B>,
        prompts: &[Vec<u8>],
    ) -> Result<()> {
        let (of_prompt, way_out) = match self.beam_size {
            Some(n) => (n, "lower `--beam-size` or `--tokens`"),
            None => (self.samples, "lower `--samples` or `--tokens`"),
        };
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let (n_rows, length) = (
            prompts.len().saturating_mul(of_prompt),
            longest + self.tokens,
        );
        let size = DecodingSize {
            n_rows,
            length,
            cache_bytes: model.cache_bytes(n_rows, length),
            vocab_size: model.model().reformer.vocab_size,
        };
        check_continuing(size, self.device, way_out)
    }

    /// All texts to continue: those of the command line, then those of files.
    fn prompts(&self) -> Result<Vec<Vec<u8>>> {
        if self.prompt.iter().any(String::is_empty) {
            bail!("a `--prompt` is empty: there is nothing to continue");
        }
        if self
            .prompt_files
            .iter()
            .filter(|path| is_stdin(path))
            .count()
            > 1
        {
            bail!("`--prompt-file -` is given twice, but the standard input can be read only once");
        }
        let texts = self
            .prompt
            .iter()
            .map(|prompt| Ok(prompt.as_bytes().to_vec()));
        texts
            .chain(self.prompt_files.iter().map(|path| read(path)))
            .collect()
    }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Reads a prompt from a file or the standard input.
fn read(path: &Path) -> Result<Vec<u8>> {
    let is_stdin = is_stdin(path);
    let name = match is_stdin {
        true => "the standard input".to_owned(),
        false => format!("`{}`", path.display()),
    };
    let reader = || -> io::Result<Box<dyn Read>> {
        Ok(match is_stdin {
            true => Box::new(io::stdin().lock()),
            false => Box::new(File::open(path)?),
        })
    };
    let mut bytes = Vec::new();
    reader()
        .and_then(|reader| reader.take(MOST_TOKENS as u64 + 1).read_to_end(&mut bytes))
        .with_context(|| format!("{name} cannot be read"))?;
    if bytes.is_empty() {
        bail!("{name} is empty: there is nothing to continue");
    }
    if bytes.len() > MOST_TOKENS {
        bail!("{name} has more than the {MOST_TOKENS} bytes that a prompt can have: give its end");
    }
    Ok(bytes)
}

pub fn main() -> ExitCode {
    cli::program(|arguments: Arguments| device::run(arguments.device, arguments))
}

impl Job for Arguments {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<()> {
        self.sampler.config()?;
        let beam = self.beam()?;
        let n_prompts = self.prompt.len() + self.prompt_files.len();
        let n_rows = self.samples.saturating_mul(n_prompts);
        check_range("--samples", self.samples, MOST_ROWS)?;
        check_most("--samples times --prompt", n_rows, MOST_ROWS)?;
        check_most("--tokens", self.tokens, MOST_TOKENS)?;
        let prompts = self.prompts()?;
        let model = {
            let checkpoint = Checkpoint::open(self.checkpoint.as_deref())?;
            loading(|| TextModel::<B::InnerBackend>::open(checkpoint.path(), &device))?
        };
        let n_bytes = prompts.iter().map(Vec::len).sum();
        let limit = [&*format!("prompts of {n_bytes} bytes"), "give their ends"];
        check_reading(&model.model().reformer, n_bytes, self.device, limit)?;
        self.check_memory(&model, &prompts)?;
        match beam {
            Some(beam) => search(&model, &self, &prompts, &beam),
            None => draw(&model, self, prompts),
        }
    }
}

fn draw<B: ReformerBackend>(
    model: &TextModel<B>,
    arguments: Arguments,
    prompts: Vec<Vec<u8>>,
) -> Result<()> {
    let request = GenerationRequest {
        n_samples: arguments.samples,
        n_tokens: arguments.tokens,
        sampler: arguments.sampler.config()?,
        seed: arguments.sampler.seed,
        stop: arguments.stop,
        prompts,
    };
    let cost = match (&request.prompts[..], request.n_samples) {
        ([prompt], 1) => stream(model, &request, prompt)?,
        _ => write_all(model, &request)?,
    };
    if arguments.verbose {
        tell(&cost);
    }
    Ok(())
}

/// Prints several texts once they are complete.
fn write_all<B: ReformerBackend>(
    model: &TextModel<B>,
    request: &GenerationRequest,
) -> Result<Cost> {
    let mut texts = vec![Vec::new(); request.prompts.len() * request.n_samples];
    let cost = {
        let _waiting = waiting("Writing");
        model.stream(request, |row, text| {
            texts[row].extend_from_slice(text);
            anyhow::Ok(())
        })?
    };
    for (row, text) in texts.iter().enumerate() {
        let (prompt, sample) = (row / request.n_samples, row % request.n_samples);
        let title = format!("prompt {}, continuation {}", prompt + 1, sample + 1);
        print(&title, &request.prompts[prompt], text)?;
    }
    Ok(cost)
}

/// Goes to the standard error, since the text is the program's output.
fn tell(cost: &Cost) {
    let others = cost.n_written.saturating_sub(1).max(1) as f64;
    eprintln!(
        "{} tokens read, the first new one after {:.2} s, the others {:.2} ms each; the cache takes {:.2} MiB",
        cost.n_read,
        cost.first_seconds,
        1e3 * cost.other_seconds / others,
        cost.cache_bytes as f64 / f64::from(1 << 20)
    );
}

/// Prints a single text while it is generated.
fn stream<B: ReformerBackend>(
    model: &TextModel<B>,
    request: &GenerationRequest,
    prompt: &[u8],
) -> Result<Cost> {
    let mut reading = Some(waiting("Reading the prompt"));
    let mut output = Output::new();
    let mut writer = Utf8Writer::new(Output::new());
    let cost = model.stream(request, |_, text| {
        if reading.take().is_some() {
            output.write_all(prompt)?;
        }
        text.iter().try_for_each(|&byte| writer.push(byte))?;
        anyhow::Ok(())
    })?;
    writer.finish()?;
    output.write_all(b"\n")?;
    Ok(cost)
}

fn search<B: ReformerBackend>(
    model: &TextModel<B>,
    arguments: &Arguments,
    prompts: &[Vec<u8>],
    beam: &BeamConfig,
) -> Result<()> {
    let found = {
        let _waiting = waiting("Searching");
        model.search(prompts, arguments.tokens, beam)?
    };
    for (number, (found, prompt)) in found.iter().zip(prompts).enumerate() {
        for (place, found) in found.iter().enumerate() {
            let place = place + 1;
            let title = format!(
                "prompt {}, number {place}, score {:.3}",
                number + 1,
                found.score
            );
            print(&title, prompt, &found.text)?;
        }
    }
    Ok(())
}

fn print(title: &str, prompt: &[u8], text: &[u8]) -> Result<()> {
    let [prompt, text] = [prompt, text].map(String::from_utf8_lossy);
    writeln!(Output::new(), "--- {title}\n{prompt}{text}")?;
    Ok(())
}
