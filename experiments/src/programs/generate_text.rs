//! Continues texts with a trained model.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::allocator::keep_freed_memory;
use crate::arguments::{MOST_ROWS, MOST_TOKENS, SamplerArguments, check_most, check_range, finite};
use crate::cli;
use crate::device::{self, DeviceName, Job};
use crate::generation::{TextModel, Wish};
use crate::out::Output;
use crate::progress::waiting;
use crate::text::Utf8Writer;
use anyhow::Result;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use reformer_core::generation::BeamConfig;
use reformer_core::kernels::ReformerBackend;

const EXAMPLES: &str = "\
Examples:
  generate_text --checkpoint runs/tiny-1 --prompt 'ROMEO:'
  Always the most probable byte:
    generate_text --checkpoint runs/tiny-1 --prompt 'ROMEO:' --temperature 0
  Another text, less daring, that ends with the speech:
    generate_text --checkpoint runs/tiny-1 --prompt 'ROMEO:' --seed 2 --top-p 0.9 --stop $'\\n\\n'
  Three continuations of each of two beginnings:
    generate_text --checkpoint runs/tiny-1 --prompt 'ROMEO:' --prompt 'JULIET:' --batch 3
  The best of what eight hypotheses lead to:
    generate_text --checkpoint runs/tiny-1 --prompt 'ROMEO:' --tokens 40 --beam-size 8
  A model of Hugging Face, with its config.json, weights and, if it has one, spiece.model:
    generate_text --checkpoint reformer-crime-and-punishment --prompt 'A few months later'

A run that is not finished is read from its newest checkpoint.";

/// Continue texts with a model that train_text has trained, or with one of Hugging Face.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// Folder of the run, or of a Hugging Face model
    #[arg(long, value_name = "FOLDER")]
    checkpoint: PathBuf,
    /// Text to continue; may be given several times
    #[arg(long, value_name = "TEXT", required = true)]
    prompt: Vec<String>,
    /// Tokens to generate: bytes, or what the model's tokenizer makes of text
    #[arg(long, value_name = "N", default_value_t = 500)]
    tokens: usize,
    /// Continuations of each prompt
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: usize,
    /// End before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    #[command(flatten)]
    sampler: SamplerArguments,
    /// Search the most probable continuations with so many hypotheses, instead of drawing
    #[arg(long, value_name = "N", conflicts_with_all = ["batch", "stop"], help_heading = "Beam search")]
    beam_size: Option<usize>,
    /// Exponent of the length by which the search divides; 0 compares probabilities
    #[arg(
        long,
        value_name = "ALPHA",
        default_value_t = 0.6,
        value_parser = finite,
        help_heading = "Beam search"
    )]
    length_penalty: f64,
    /// Where to compute
    #[arg(long, value_enum, default_value = "flex")]
    device: DeviceName,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments: Arguments = cli::parse();
    keep_freed_memory();
    cli::main(|| {
        let device = arguments.device;
        device::run(device, Generate(arguments))
    })
}

struct Generate(Arguments);

impl Job for Generate {
    fn run<B>(self, device: B::Device) -> Result<()>
    where
        B: AutodiffBackend + ReformerBackend,
        B::InnerBackend: ReformerBackend,
    {
        let Self(arguments) = self;
        arguments.sampler.config().validate()?;
        let n_rows = arguments.batch.saturating_mul(arguments.prompt.len());
        check_range("--batch", arguments.batch, MOST_ROWS)?;
        check_most("--batch times --prompt", n_rows, MOST_ROWS)?;
        check_most("--tokens", arguments.tokens, MOST_TOKENS)?;
        let model = {
            let _waiting = waiting("Loading the model");
            TextModel::<B::InnerBackend>::open(&arguments.checkpoint, &device)?
        };
        match arguments.beam_size {
            Some(beam_size) => search(&model, &arguments, beam_size),
            None => draw(&model, arguments),
        }
    }
}

fn draw<B: ReformerBackend>(model: &TextModel<B>, arguments: Arguments) -> Result<()> {
    let wish = Wish {
        n_samples: arguments.batch,
        n_tokens: arguments.tokens,
        sampler: arguments.sampler.config(),
        seed: arguments.sampler.seed,
        stop: arguments.stop,
        prompts: arguments.prompt,
    };
    if let ([prompt], 1) = (&wish.prompts[..], wish.n_samples) {
        return stream(model, &wish, prompt);
    }
    let mut texts = vec![Vec::new(); wish.prompts.len() * wish.n_samples];
    {
        let _waiting = waiting("Writing");
        model.write_on(&wish, |row, text| {
            texts[row].extend_from_slice(text);
            Ok(())
        })?;
    }
    for (row, text) in texts.iter().enumerate() {
        let (prompt, sample) = (row / wish.n_samples, row % wish.n_samples);
        let title = format!("prompt {}, continuation {}", prompt + 1, sample + 1);
        print(&title, &wish.prompts[prompt], text)?;
    }
    Ok(())
}

/// Prints a single text as it is written.
fn stream<B: ReformerBackend>(model: &TextModel<B>, wish: &Wish, prompt: &str) -> Result<()> {
    let mut reading = Some(waiting("Reading the prompt"));
    let mut output = Output::new();
    let mut writer = Utf8Writer::new(Output::new());
    model.write_on(wish, |_, text| {
        if reading.take().is_some() {
            output.write_all(prompt.as_bytes())?;
        }
        text.iter().try_for_each(|&byte| writer.push(byte))?;
        Ok(())
    })?;
    writer.finish()?;
    output.write_all(b"\n")?;
    Ok(())
}

fn search<B: ReformerBackend>(
    model: &TextModel<B>,
    arguments: &Arguments,
    beam_size: usize,
) -> Result<()> {
    let config = BeamConfig::new()
        .with_beam_size(beam_size)
        .with_length_penalty(arguments.length_penalty);
    let found = {
        let _waiting = waiting("Searching");
        model.search(&arguments.prompt, arguments.tokens, &config)?
    };
    for (number, (found, prompt)) in found.iter().zip(&arguments.prompt).enumerate() {
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

fn print(title: &str, prompt: &str, text: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(text);
    writeln!(Output::new(), "--- {title}\n{prompt}{text}")?;
    Ok(())
}
