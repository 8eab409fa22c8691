//! Trains a classifier of texts.

use std::ops::ControlFlow;
use std::process::ExitCode;

use crate::allocator::keep_freed_memory;
use crate::cli;
use crate::device::{self, DeviceName, Job};
use crate::labelled::LabelledArguments;
use crate::scores::Scores;
use crate::training::{Program, TrainArguments, train};
use anyhow::{Result, bail};
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use reformer_core::kernels::ReformerBackend;
use reformer_train::{
    ClassFiles, ClassesConfig, DataConfig, Evaluation, ModelConfig, Run, TrainConfig,
};

const EXAMPLES: &str = "\
Examples:
  Minutes on the sample: is a passage German, English of our day, or English of Shakespeare's?
    train_classifier
  A table with the columns text and label, between tabs or commas:
    train_classifier --data reviews.csv --length 2048 --name mine
  The IMDB reviews, a folder with a folder of texts for each class, with a test set:
    train_classifier --data aclImdb/train --valid aclImdb/test --length 4096 --name imdb
  Resume a run that was stopped or killed:
    train_classifier --resume runs/mine
  Its accuracy on other texts, and the confusion matrix:
    evaluate --checkpoint runs/mine --data others.csv

--data is a table with columns text and label, or a folder of folders. A token is a byte; the first
--length - 1 of a text are read. Without --valid about a tenth of the texts is kept for validation. Names of classes are
in OUT/NAME/classes.json. `classify` applies the model to unlabelled texts.";

/// Train a Reformer to classify texts.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    data: LabelledArguments,
    #[command(flatten)]
    train: TrainArguments,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let Arguments { data, train: flags } = cli::parse();
    keep_freed_memory();
    cli::main(|| train(flags, &Classifier(data)))
}

struct Classifier(LabelledArguments);

impl Program for Classifier {
    fn name(&self) -> &'static str {
        "train_classifier"
    }

    fn preset(&self) -> &'static str {
        "classifier"
    }

    fn data(&self, preset: DataConfig) -> Result<DataConfig> {
        let DataConfig::Classes(preset) = preset else {
            bail!("this preset is not for classes of texts: use `classifier`");
        };
        let files = self.0.files(ClassFiles::at)?;
        Ok(DataConfig::Classes(
            files.map_or(preset, |(train, valid)| {
                ClassesConfig::new(train).with_valid(valid)
            }),
        ))
    }

    /// Sets the number of classes to that of the data.
    fn fit_model(&self, config: &mut TrainConfig) -> Result<()> {
        if let (DataConfig::Classes(data), ModelConfig::Classifier(model)) =
            (&config.data, &mut config.model)
        {
            model.n_classes = data.n_classes()?;
        }
        Ok(())
    }

    fn finish(&self, run: &Run, device: DeviceName) -> Result<()> {
        device::run(device, Score(run))
    }
}

/// Prints the confusion matrix.
struct Score<'a>(&'a Run);

impl Job for Score<'_> {
    fn run<B>(self, device: B::Device) -> Result<()>
    where
        B: AutodiffBackend + ReformerBackend,
        B::InnerBackend: ReformerBackend,
    {
        let evaluation = Evaluation::<B::InnerBackend>::open(self.0.folder(), &[], &device)?;
        let (scores, _) = Scores::measure(&evaluation, &device, |_, _| ControlFlow::Continue(()))?;
        println!("\n{scores}");
        Ok(())
    }
}
