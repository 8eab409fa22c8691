//! Messages of a training program before and after a training.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use burn::module::Module;
use burn::tensor::backend::AutodiffBackend;
use reformer_core::kernels::ReformerBackend;
use reformer_datasets::tokens::Column;
use reformer_train::data::{
    ClassFiles, DataReport, IdFiles, IdsConfig, LongRangeConfig, PairFiles, QuestionFiles,
    TokenizedConfig, TokenizerConfig,
};
use reformer_train::metrics::Quantity;
use reformer_train::{DataConfig, Ending, Run, RunOutcome};

use crate::cli::called;
use crate::cli::shell_argument;
use crate::training::TrainingProgram;

/// Prints the model, the data and the device before a training.
pub(crate) fn announce<B: AutodiffBackend>(
    run: &Run,
    program: &dyn TrainingProgram,
    step: usize,
    device: &B::Device,
) -> Result<()> {
    let config = run.config();
    let n_params = config.model.init::<B>(device).num_params();
    println!(
        "Training {n_params} parameters on {}: {} steps of {} sequences of {} tokens",
        describe(&config.data),
        config.steps,
        config.batch_size,
        config.window_length
    );
    let DataReport {
        train,
        valid,
        bytes_per_token,
    } = run.data_report();
    println!("Training data: {train}\nValidation data: {valid}");
    if let Some(bytes) = bytes_per_token {
        println!("Validation data: {bytes:.3} bytes per token on average");
    }
    if let Some(n) = run.questions().map(|asked| asked.n_left_out)
        && n > 0
    {
        println!(
            "{n} questions are left out: their answer lies beyond the first {} tokens (--length)",
            config.window_length
        );
    }
    if let Some(ending) = run.ending()? {
        println!("There is nothing to train: {ending}; --steps N makes the run longer");
        return Ok(());
    }
    if step > 0 {
        println!("Resuming after step {step}");
    }
    if let Some(extension) = run.extension() {
        println!("{extension}");
    }
    println!(
        "Writing to {}; if it stops, resume with:\n  {}",
        run.folder().display(),
        resume_command(program, run.folder())
    );
    Ok(())
}

/// Description of a run's training data.
fn describe(data: &DataConfig) -> String {
    match data {
        DataConfig::Sample => "the sample (Shakespeare)".to_owned(),
        DataConfig::File(path)
        | DataConfig::Folder(path)
        | DataConfig::Enwik8(path)
        | DataConfig::Text8(path) => path.display().to_string(),
        DataConfig::Column(column) => describe_column(column),
        DataConfig::Tokenized(TokenizedConfig { text, tokenizer }) => {
            let tokenizer = match tokenizer {
                TokenizerConfig::Bpe { .. } => "byte pairs trained on it".to_owned(),
                TokenizerConfig::File(path) => path.display().to_string(),
            };
            format!("{} through {tokenizer}", describe(text))
        }
        DataConfig::Ids(IdsConfig { files, .. }) => match files {
            IdFiles::Raw { path, .. } => format!("ids in {}", path.display()),
            IdFiles::Column(column) => describe_column(column),
        },
        DataConfig::Images { path, size } => {
            format!("images of {size} x {size} pixels in {}", path.display())
        }
        DataConfig::Duplication { n_symbols } => format!("0w0w of {n_symbols} symbols"),
        DataConfig::AssociativeRecall { n_pairs, .. } => format!("{n_pairs} pairs and questions"),
        DataConfig::ReturningPassages {
            shortest, longest, ..
        } => format!("repeated passages of {shortest} to {longest} symbols"),
        DataConfig::Own(name) => name.clone(),
        DataConfig::Needles { path, n_needles } => {
            let text = match path {
                Some(path) => path.display().to_string(),
                None => "the sample (Shakespeare)".to_owned(),
            };
            format!("{n_needles} sentences planted in {text}")
        }
        DataConfig::Pairs(pairs) => match &pairs.train {
            PairFiles::Sample => "the sample (Tatoeba)".to_owned(),
            PairFiles::Table(path) => path.display().to_string(),
            PairFiles::Lines { source, target } => {
                format!("{} and {}", source.display(), target.display())
            }
        },
        DataConfig::Classes(classes) => match &classes.train {
            ClassFiles::Sample => "the sample (passages in three languages)".to_owned(),
            ClassFiles::Table(path) | ClassFiles::Folder(path) => path.display().to_string(),
        },
        DataConfig::LongRange(LongRangeConfig::Lists(lists)) => format!(
            "generated ListOps (more than {} and fewer than {} symbols)",
            lists.min_length, lists.max_length
        ),
        DataConfig::LongRange(LongRangeConfig::Files { task, path }) => {
            format!("the task `{}` in {}", task.name(), path.display())
        }
        DataConfig::Questions(questions) => match &questions.train {
            QuestionFiles::Sample => "the sample (sentences of Tatoeba)".to_owned(),
            QuestionFiles::Squad(path) => path.display().to_string(),
        },
    }
}

fn describe_column(column: &Column) -> String {
    format!("`{}` in {}", column.name, column.path.display())
}

/// Prints the results of a training.
pub(crate) fn report<B: ReformerBackend>(
    run: &Run,
    program: &dyn TrainingProgram,
    outcome: &RunOutcome<B>,
    started: Instant,
) {
    let seconds = started.elapsed().as_secs_f64();
    match &outcome.ending {
        Ending::Finished => {}
        Ending::Early => println!(
            "\nEnded early: no evaluation was better than that of step {}, whose weights are kept",
            outcome.best.map_or(0, |best| best.step)
        ),
        Ending::Interrupted(reason) => println!(
            "\nStopped: {reason} Resume with:\n  {}",
            resume_command(program, run.folder())
        ),
    }
    if let Some(last) = outcome.valid.last() {
        let token_name = run.config().data.token_name();
        let get = |quantity| last.get(quantity).unwrap_or(f64::NAN);
        let bits = get(Quantity::Bits);
        let per_byte = run.data_report().bytes_per_token;
        let per_byte = per_byte.map(|bytes| format!(" ({:.3} bits per byte)", bits / bytes));
        println!(
            "\nAfter step {} and {seconds:.0} s: {bits:.3} bits per {token_name}{} on held-out data, \
             {:.2} % of {token_name}s right\nWritten to {}; its curves are in report.html",
            last.step,
            per_byte.unwrap_or_default(),
            get(Quantity::Accuracy),
            run.folder().display()
        );
    }
}

/// The shell command that resumes a run.
fn resume_command(program: &dyn TrainingProgram, folder: &Path) -> String {
    format!(
        "{} --resume {}",
        called::command(program.name()),
        shell_argument(folder)
    )
}
