//! Trains a classifier of texts, or on a task of the Long Range Arena.

use std::ops::ControlFlow;
use std::process::ExitCode;

use crate::cli;
use crate::cli::device::{self, DeviceName, Job};
use crate::cli::named::named;
use crate::inference::scores;
use crate::training::labelled::LabelledArguments;
use crate::training::long_range;
use crate::training::{TrainArguments, TrainingProgram, train};
use anyhow::{Result, bail};
use clap::{Args, Parser};
use reformer_core::kernels::TrainBackend;
use reformer_datasets::long_range::LongRangeTask;
use reformer_train::data::{ClassFiles, ClassesConfig};
use reformer_train::{DataConfig, Evaluation, ModelConfig, Run, TrainConfig};

const EXAMPLES: &str = "\
Examples:
  Minutes on the sample: is a passage German, modern English or Shakespeare's English?
    train_classifier
  A table with the columns text and label, between tabs or commas:
    train_classifier --data reviews.csv --length 2048 --name mine
  The IMDB reviews, a folder with a folder of texts for each class, with a test set:
    train_classifier --data aclImdb/train --valid aclImdb/test --length 4096 --name imdb
  A task of the Long Range Arena: its files, or generated lists, shorter than the benchmark's:
    train_classifier --task image --data cifar-10-batches-bin --name cifar
    train_classifier --task listops --length 256 --steps 2000 --name lists
    evaluate --checkpoint runs/lists --test
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
pub(super) struct Arguments {
    #[command(flatten)]
    data: ClassifierData,
    #[command(flatten)]
    train: TrainArguments,
}

/// Flags that name the data.
#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
struct ClassifierData {
    /// A task of the Long Range Arena, instead of texts
    #[arg(long, value_parser = named::<LongRangeTask>(), conflicts_with_all = ["valid", "resume", "join"])]
    task: Option<LongRangeTask>,
    #[command(flatten)]
    files: LabelledArguments,
}

pub fn main() -> ExitCode {
    cli::program(|arguments: Arguments| train(arguments.train, &Classifier(arguments.data)))
}

struct Classifier(ClassifierData);

impl TrainingProgram for Classifier {
    fn name(&self) -> &'static str {
        "train_classifier"
    }

    fn preset(&self) -> &'static str {
        "classifier"
    }

    fn data(&self, preset: DataConfig) -> Result<DataConfig> {
        let Classifier(ClassifierData { task, files }) = self;
        if let Some(task) = *task {
            return long_range::data(task, files.data()?);
        }
        if !matches!(preset, DataConfig::Classes(_) | DataConfig::LongRange(_)) {
            bail!("this preset is not for classes of texts: use `classifier`");
        }
        let files = files.files(ClassFiles::at)?;
        Ok(files.map_or(preset, |(train, valid)| {
            DataConfig::Classes(ClassesConfig::new(train).with_valid(valid))
        }))
    }

    fn set_defaults(&self, config: &mut TrainConfig) {
        if let Some(task) = self.0.task {
            long_range::set_defaults(config, task);
        }
    }

    /// Sets the number of classes to that of the data, and the length of generated lists to that of the run.
    fn fit_model(&self, config: &mut TrainConfig) -> Result<()> {
        if self.0.task.is_some() {
            long_range::fill_length(config);
        }
        match (&config.data, &mut config.model) {
            (DataConfig::Classes(data), ModelConfig::Classifier(model)) => {
                model.n_classes = data.n_classes()?;
            }
            (DataConfig::LongRange(data), model) => long_range::fit_model(model, data.task()),
            _ => {}
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
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<()> {
        let evaluation = Evaluation::<B::InnerBackend>::open(self.0.folder(), &[], &device)?;
        let (scores, _) = scores::measure(&evaluation, &device, |_, _| ControlFlow::Continue(()))?;
        println!("\n{scores}");
        Ok(())
    }
}
