//! Translating with a progress bar, and scoring what was translated.

use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::ReformerSeq2Seq;
use reformer_datasets::translation::Bleu;
use reformer_train::data::Pairs;
use reformer_train::inference::{InferenceError, Translator};

use crate::cli::arguments::BeamArguments;

/// Flags of scoring translations.
#[derive(Debug, Args)]
#[command(next_help_heading = "Translation")]
pub(crate) struct BleuArguments {
    /// Sentences to translate and to score, from the start of the validation text; 0 for none
    #[arg(long, value_name = "N", default_value_t = 400)]
    pub(crate) bleu_sentences: usize,
    /// Settings of the beam search.
    #[command(flatten)]
    pub(crate) beam: BeamArguments,
}

/// Translated sentences with their score.
#[derive(Debug)]
pub(crate) struct Scored<'a> {
    /// Sources and references.
    pub(crate) sentences: Vec<(&'a str, &'a str)>,
    pub(crate) translations: Vec<String>,
    pub(crate) bleu: Bleu,
}

impl BleuArguments {
    /// Translates the beginning of a validation text.
    pub(crate) fn score<'a, B: ReformerBackend>(
        &self,
        model: &ReformerSeq2Seq<B>,
        pairs: &'a Pairs,
        batch_size: usize,
    ) -> Result<Scored<'a>> {
        let sentences = pairs.valid_text.iter().take(self.bleu_sentences);
        let sentences: Vec<(&str, &str)> = sentences.collect();
        let (sources, references): (Vec<&str>, Vec<&str>) = sentences.iter().copied().unzip();
        let (model, subwords) = (model.clone(), pairs.subwords.clone());
        let translator = Translator::new(model, subwords, self.beam.config()?, batch_size)?;
        let translations = translate(&translator, &sources)?;
        let bleu = Bleu::of_corpus(&translations, &references)?;
        Ok(Scored {
            sentences,
            translations,
            bleu,
        })
    }
}

/// The best translation of each sentence, with a progress bar.
///
/// # Errors
/// Those of [`Translator::translate`].
pub(crate) fn translate<B: ReformerBackend>(
    translator: &Translator<B>,
    sentences: &[&str],
) -> Result<Vec<String>, InferenceError> {
    let bar = translation_bar(sentences.len());
    let translations = translator.translate(sentences, |n| bar.inc(n as u64))?;
    bar.finish_and_clear();
    Ok(translations)
}

/// A progress bar of translated sentences.
pub(crate) fn translation_bar(sentences: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("translating {bar:30} {pos}/{len} sentences");
    ProgressBar::new(sentences as u64).with_style(style.expect("the template is a constant"))
}
