//! Continues a text with a trained model.

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::allocator::keep_freed_memory;
use crate::cli;
use crate::device::{self, DeviceName, Job};
use crate::generation::Generator;
use crate::sampling::Sampler;
use crate::text::Utf8Writer;
use anyhow::Result;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use reformer_core::kernels::ReformerBackend;
use reformer_train::load_model;

const EXAMPLES: &str = "\
Examples:
  generate_text --checkpoint runs/tiny-1 --prompt 'ROMEO:'
  Always the most probable byte:
    generate_text --checkpoint runs/tiny-1 --prompt 'ROMEO:' --temperature 0
  Another text, less daring:
    generate_text --checkpoint runs/tiny-1 --prompt 'ROMEO:' --seed 2 --temperature 0.6 --top-k 40

A run that is not finished is read from its newest checkpoint.";

/// Continue a text with a model that train_text has trained.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// Folder of the run
    #[arg(long, value_name = "RUN")]
    checkpoint: PathBuf,
    /// Text to continue; at most as many bytes as the windows that the model was trained on
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// Bytes to generate
    #[arg(long, value_name = "N", default_value_t = 500)]
    tokens: usize,
    /// What logits are divided by: 0 takes the most probable byte, 1 draws as the model says
    #[arg(long, default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f64,
    /// Draw from so many of the most probable bytes only
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// From which the text follows
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
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
        let mut sampler = Sampler::new(arguments.temperature, arguments.top_k, arguments.seed)?;
        let (model, config) = load_model::<B::InnerBackend>(&arguments.checkpoint, &device)?;
        let generator = Generator::new(model, &config, device);
        let prompt = arguments.prompt.as_bytes();
        generator.check(prompt, arguments.tokens)?;
        let mut output = stdout();
        output.write_all(prompt)?;
        let mut writer = Utf8Writer::new(output);
        generator.generate(prompt, arguments.tokens, &mut sampler, |byte| {
            Ok(writer.push(byte)?)
        })?;
        writer.finish()?;
        writeln!(stdout())?;
        Ok(())
    }
}
