//! Trains a model to answer questions by marking a span of a text.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::process::ExitCode;

use crate::cli;
use crate::cli::device::{self, DeviceName, Job};
use crate::inference::scores;
use crate::out;
use crate::training::labelled::LabelledArguments;
use crate::training::{TrainArguments, TrainingProgram, train};
use anyhow::{Context, Result, bail};
use clap::Parser;
use reformer_core::kernels::TrainBackend;
use reformer_train::data::{QuestionFiles, QuestionsConfig};
use reformer_train::{DataConfig, Evaluation, Run};

const EXAMPLES: &str = "\
Examples:
  Minutes on a sample made of sentences of Tatoeba: which of four English ones translates a German one?
    train_qa
  SQuAD 1.1 or 2.0, whose questions may have no answer:
    train_qa --data train-v2.0.json --valid dev-v2.0.json --length 1024 --steps 20000 --name squad
  Resume a run that was stopped or killed:
    train_qa --resume runs/squad
  Exact match and F1 on other questions:
    evaluate --checkpoint runs/squad --data others.json

--data is a file of SQuAD, 1.1 or 2.0. A token is a byte. The model reads a token that stands for \"no answer\",
the question, a separator and the text, --length tokens in all. Questions whose answer is beyond that are
not trained on, and count as not found. Without --valid the questions about a tenth of the texts are kept for
validation. At the end the model's answers are written to answers.json, by the ids of the questions, as SQuAD's
own script reads them. `answer` applies the model to other questions.";

/// Train a Reformer to mark the answer to a question in a text.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    data: LabelledArguments,
    #[command(flatten)]
    train: TrainArguments,
}

pub fn main() -> ExitCode {
    cli::program(|arguments: Arguments| train(arguments.train, &Answers(arguments.data)))
}

struct Answers(LabelledArguments);

impl TrainingProgram for Answers {
    fn name(&self) -> &'static str {
        "train_qa"
    }

    fn preset(&self) -> &'static str {
        "qa"
    }

    fn data(&self, preset: DataConfig) -> Result<DataConfig> {
        let DataConfig::Questions(preset) = preset else {
            bail!("this preset is not for questions: use `qa`");
        };
        let files = self.0.files(QuestionFiles::Squad)?;
        Ok(DataConfig::Questions(
            files.map_or(preset, |(train, valid)| {
                QuestionsConfig::new(train).with_valid(valid)
            }),
        ))
    }

    fn finish(&self, run: &Run, device: DeviceName) -> Result<()> {
        device::run(device, Score(run))
    }
}

/// Answers the validation questions, and prints the scores.
struct Score<'a>(&'a Run);

impl Job for Score<'_> {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<()> {
        let Self(run) = self;
        let evaluation = Evaluation::<B::InnerBackend>::open(run.folder(), &[], &device)?;
        let (scores, measured) =
            scores::measure(&evaluation, &device, |_, _| ControlFlow::Continue(()))?;
        let questions = evaluation.questions().context("the run has no questions")?;
        let answers: Vec<_> = questions.iter().zip(&measured.answers).collect();
        let named: BTreeMap<_, _> = answers.iter().map(|(q, answer)| (&q.id, answer)).collect();
        let path = run.folder().join("answers.json");
        let json = serde_json::to_vec_pretty(&named)?;
        out::save(&path, &json)?;
        println!("\nSome answers:");
        let n_shown = 5.min(answers.len());
        for (question, answer) in (0..n_shown).map(|n| answers[n * answers.len() / n_shown]) {
            println!("  {} -> {answer}", question.question);
        }
        println!("\n{scores}");
        Ok(())
    }
}
