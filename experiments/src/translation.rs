//! Translating sentences with a trained model.

use anyhow::{Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reformer_core::generation::{BeamConfig, translate};
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::ReformerSeq2Seq;
use reformer_datasets::translation::{Bleu, Subwords};
use reformer_train::Pairs;

/// Pieces that a translation may have beyond those of its source.
const MORE_PIECES: usize = 50;

/// How translations are scored.
#[derive(Debug, Args)]
#[command(next_help_heading = "Translation")]
pub struct BleuArguments {
    /// Sentences to translate and to score, from the start of the validation text; 0 for none
    #[arg(long, value_name = "N", default_value_t = 400)]
    pub bleu_sentences: usize,
    /// Hypotheses of the beam search; 1 takes the most probable piece each time
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub beam_size: usize,
    /// Exponent of its length penalty
    #[arg(
        long,
        value_name = "ALPHA",
        default_value_t = 0.6,
        allow_negative_numbers = true
    )]
    pub length_penalty: f64,
}

/// Sentences, translated and scored.
#[derive(Debug)]
pub struct Scored<'a> {
    /// Each with its reference.
    pub sentences: Vec<(&'a str, &'a str)>,
    /// What the model makes of them.
    pub translations: Vec<String>,
    /// How good that is.
    pub bleu: Bleu,
}

impl BleuArguments {
    /// The beam search.
    pub fn beam(&self) -> BeamConfig {
        BeamConfig::new()
            .with_beam_size(self.beam_size)
            .with_length_penalty(self.length_penalty)
    }

    /// Translates the beginning of a validation text.
    ///
    /// # Errors
    /// Settings that cannot work, or sentences that cannot be translated.
    pub fn score<'a, B: ReformerBackend>(
        &self,
        model: &ReformerSeq2Seq<B>,
        pairs: &'a Pairs,
        batch_size: usize,
    ) -> Result<Scored<'a>> {
        let sentences = pairs.valid_text.iter().take(self.bleu_sentences);
        let sentences: Vec<(&str, &str)> = sentences.collect();
        let (sources, references): (Vec<&str>, Vec<&str>) = sentences.iter().copied().unzip();
        let translator = Translator::new(model, &pairs.subwords, self.beam(), batch_size)?;
        let translations = translator.translate(&sources)?;
        let bleu = Bleu::of_corpus(&translations, &references)?;
        Ok(Scored {
            sentences,
            translations,
            bleu,
        })
    }
}

/// A model and its vocabulary.
#[derive(Debug)]
pub struct Translator<'a, B: ReformerBackend> {
    model: &'a ReformerSeq2Seq<B>,
    subwords: &'a Subwords,
    beam: BeamConfig,
    batch_size: usize,
}

impl<'a, B: ReformerBackend> Translator<'a, B> {
    /// Translates so many sentences at a time, with hypotheses of a beam that
    /// [ends](BeamConfig::end) where the vocabulary says.
    ///
    /// # Errors
    /// Settings that cannot work.
    pub fn new(
        model: &'a ReformerSeq2Seq<B>,
        subwords: &'a Subwords,
        beam: BeamConfig,
        batch_size: usize,
    ) -> Result<Self> {
        beam.validate()?;
        if batch_size == 0 {
            bail!("the batch size is 0, but a sentence must be translated at a time: use 32");
        }
        Ok(Self {
            model,
            subwords,
            beam: beam.with_end(Some(subwords.eos())),
            batch_size,
        })
    }

    /// The best translation of each sentence. Sentences of similar length are translated together,
    /// with a progress bar.
    ///
    /// # Errors
    /// Sentences that are longer than the model's positions, or that the vocabulary cannot read.
    pub fn translate<S: AsRef<str>>(&self, sentences: &[S]) -> Result<Vec<String>> {
        let mut sources = Vec::with_capacity(sentences.len());
        for (number, sentence) in sentences.iter().enumerate() {
            let mut pieces = self.subwords.encode(sentence.as_ref())?;
            pieces.push(self.subwords.eos());
            sources.push((number, pieces));
        }
        sources.sort_by_key(|(_, pieces)| pieces.len());
        let style = ProgressStyle::with_template("translating {bar:30} {pos}/{len} sentences");
        let bar = ProgressBar::new(sentences.len() as u64)
            .with_style(style.expect("the template is a constant"));
        let mut translations = vec![String::new(); sentences.len()];
        for batch in sources.chunks(self.batch_size) {
            let (numbers, pieces): (Vec<usize>, Vec<Vec<u32>>) = batch.iter().cloned().unzip();
            let positions = self.model.decoder.position.max_length();
            let most = |source: &Vec<u32>| {
                let limit = positions.unwrap_or(usize::MAX);
                (source.len() + MORE_PIECES).min(limit)
            };
            let most: Vec<usize> = pieces.iter().map(most).collect();
            let begin = self.subwords.bos();
            let found = translate(self.model, &pieces, begin, &most, &self.beam)?;
            for (number, hypotheses) in numbers.into_iter().zip(found) {
                let best = hypotheses.first().map_or(&[][..], |best| &best.tokens);
                translations[number] = self.subwords.decode(best)?;
            }
            bar.inc(batch.len() as u64);
        }
        bar.finish_and_clear();
        Ok(translations)
    }
}
