//! Trains a model to predict hidden bytes of a text.

use std::process::ExitCode;

use crate::cli;
use crate::cli::device::{self, DeviceName, Job};
use crate::training::text::TextArguments;
use crate::training::{TrainArguments, TrainingProgram, train};
use anyhow::{Result, bail};
use clap::Parser;
use reformer_core::kernels::TrainBackend;
use reformer_core::model::MaskingConfig;
use reformer_train::inference::Filled;
use reformer_train::{Batch, DataConfig, Evaluation, Model, ModelConfig, Run, TrainConfig};

/// Bytes of the example that is shown at the end.
const SHOWN: usize = 240;

const EXAMPLES: &str = "\
Examples:
  Three minutes on the sample that ships with the project:
    train_masked
  Your own file or folder:
    train_masked --data book.txt --name mine
  The settings of train_text's presets, with a bidirectional model:
    train_masked --data book.txt --preset small
  A larger share of hidden bytes:
    train_masked --set masking.share=0.3
  Its accuracy on another text:
    evaluate --checkpoint runs/mine --data other.txt

In each window 15 % of the bytes are to be predicted, as in BERT: 80 % of these are replaced by a mask token,
10 % by a random byte, and the others stay. Validation uses the same masks each time.";

/// Train a Reformer to predict hidden bytes of a text (masked language model).
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    data: TextArguments,
    #[command(flatten)]
    train: TrainArguments,
}

pub fn main() -> ExitCode {
    cli::program(|arguments: Arguments| train(arguments.train, &Masked(arguments.data)))
}

struct Masked(TextArguments);

impl TrainingProgram for Masked {
    fn name(&self) -> &'static str {
        "train_masked"
    }

    fn preset(&self) -> &'static str {
        "masked"
    }

    fn data(&self, preset: DataConfig) -> Result<DataConfig> {
        self.0.config(preset)
    }

    /// Turns a preset for a causal model into one for a bidirectional model.
    fn fit_model(&self, config: &mut TrainConfig) -> Result<()> {
        if config.masking.is_some() {
            return Ok(());
        }
        let ModelConfig::Lm(model) = &mut config.model else {
            bail!("this preset is for {}: use `masked`", config.model.name());
        };
        let model = &mut model.reformer;
        let mask_token = model.vocab_size;
        model.vocab_size += 1;
        model.causal = false;
        model.local.after = model.local.before;
        config.masking = Some(MaskingConfig::new(model.vocab_size, mask_token));
        Ok(())
    }

    fn finish(&self, run: &Run, device: DeviceName) -> Result<()> {
        device::run(device, Show(run))
    }
}

/// Shows the model's predictions for the first validation window.
struct Show<'a>(&'a Run);

impl Job for Show<'_> {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<()> {
        let evaluation = Evaluation::<B::InnerBackend>::open(self.0.folder(), &[], &device)?;
        let batch = evaluation.first_batch(&device)?;
        if let (Model::Lm(model), Some(masking), Some(Batch::Tokens(batch))) =
            (&evaluation.model, &evaluation.config().masking, batch)
        {
            let found = Filled::first_of(model, masking, batch, SHOWN);
            let Filled {
                shown,
                filled,
                text,
            } = found;
            println!("\nMasked:\n{shown}\n\nPredicted:\n{filled}\n\nOriginal:\n{text}");
        }
        Ok(())
    }
}
