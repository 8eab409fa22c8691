//! Translates sentences with a trained model.

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reformer_core::generation::{
    BeamConfig, DecodingConfig, Hypothesis, Seq2SeqDecoder, translate,
};
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::ReformerSeq2Seq;
use reformer_datasets::translation::{Bleu, Subwords};
use reformer_train::Pairs;

use crate::cli::arguments::BeamArguments;

/// Largest number of pieces that a translation may have beyond those of its source.
const MORE_PIECES: usize = 50;

/// Flags of scoring translations.
#[derive(Debug, Args)]
#[command(next_help_heading = "Translation")]
pub struct BleuArguments {
    /// Sentences to translate and to score, from the start of the validation text; 0 for none
    #[arg(long, value_name = "N", default_value_t = 400)]
    pub bleu_sentences: usize,
    /// Settings of the beam search.
    #[command(flatten)]
    pub beam: BeamArguments,
}

/// Translated sentences with their score.
#[derive(Debug)]
pub struct Scored<'a> {
    /// Sources and references.
    pub sentences: Vec<(&'a str, &'a str)>,
    /// The model's translations.
    pub translations: Vec<String>,
    /// Their BLEU.
    pub bleu: Bleu,
}

impl BleuArguments {
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
        let translator = Translator::new(model, &pairs.subwords, self.beam.config(), batch_size)?;
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
    /// A translator for `batch_size` sentences at a time, by a beam search that
    /// [ends](BeamConfig::end) with the end token of the vocabulary.
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

    /// The pieces of a sentence with its end token; none for a sentence of spaces only.
    ///
    /// # Errors
    /// A sentence that is longer than the model's positions, or that the vocabulary cannot encode.
    pub fn read(&self, sentence: &str) -> Result<Vec<u32>> {
        if sentence.trim().is_empty() {
            return Ok(Vec::new());
        }
        let mut pieces = self.subwords.encode(sentence)?;
        pieces.push(self.subwords.eos());
        match self.model.encoder.position.max_length() {
            Some(limit) if pieces.len() > limit => bail!(
                "{} pieces with the end are more than the {limit} that the model has positions for: \
                 split the sentence",
                pieces.len()
            ),
            _ => Ok(pieces),
        }
    }

    /// The best translation of each sentence, with a progress bar.
    ///
    /// # Errors
    /// Those of [`read`](Self::read) and [`translate_pieces`](Self::translate_pieces).
    pub fn translate<S: AsRef<str>>(&self, sentences: &[S]) -> Result<Vec<String>> {
        let pieces = (1..).zip(sentences).map(|(number, sentence)| {
            let pieces = self.read(sentence.as_ref());
            pieces.with_context(|| format!("sentence {number}"))
        });
        let pieces = pieces.collect::<Result<Vec<_>>>()?;
        let bar = translation_bar(pieces.len());
        let translations = self.translate_pieces(&pieces, |n| bar.inc(n as u64))?;
        bar.finish_and_clear();
        Ok(translations)
    }

    /// The best translation of each sentence, a line without its end; an empty sentence stays empty.
    /// Sentences of similar length are translated together; `done` gets the number of each batch.
    ///
    /// With LSH attention the other sentences of a batch have a small influence: as in training, the
    /// longest of a batch decides on the number of buckets.
    ///
    /// # Errors
    /// Pieces that are not in the vocabulary, or a model whose weights are not finite.
    pub fn translate_pieces(
        &self,
        sentences: &[Vec<u32>],
        mut done: impl FnMut(usize),
    ) -> Result<Vec<String>> {
        let mut translations = vec![String::new(); sentences.len()];
        let is_text = |&(_, pieces): &(usize, &Vec<u32>)| !pieces.is_empty();
        let mut order: Vec<_> = sentences.iter().enumerate().filter(is_text).collect();
        done(sentences.len() - order.len());
        order.sort_by_key(|(_, pieces)| pieces.len());
        for batch in order.chunks(self.batch_size) {
            let (numbers, sources): (Vec<usize>, Vec<Vec<u32>>) = batch
                .iter()
                .map(|&(number, pieces)| (number, pieces.clone()))
                .unzip();
            for (number, translation) in numbers.into_iter().zip(self.batch(&sources)?) {
                translations[number] = translation;
            }
            done(batch.len());
        }
        Ok(translations)
    }

    fn batch(&self, sources: &[Vec<u32>]) -> Result<Vec<String>> {
        let positions = self.model.decoder.position.max_length();
        let most = |source: &Vec<u32>| {
            let limit = positions.unwrap_or(usize::MAX);
            (source.len() + MORE_PIECES).min(limit)
        };
        let most: Vec<usize> = sources.iter().map(most).collect();
        // Targets are about as long as their sources.
        let longest = sources.iter().map(Vec::len).max().unwrap_or(0);
        let decoding = DecodingConfig::new(longest).with_max_length(most.iter().copied().max());
        let mut decoder = Seq2SeqDecoder::new(self.model, sources, &decoding)?;
        let found = translate(&mut decoder, self.subwords.bos(), &most, &self.beam)?;
        let text = |hypotheses: Vec<_>| {
            let best = hypotheses
                .first()
                .map_or(&[][..], |best: &Hypothesis| &best.tokens);
            let text = self.subwords.decode(best)?;
            Ok(text.replace(['\n', '\r'], " "))
        };
        found.into_iter().map(text).collect()
    }
}

/// A progress bar of translated sentences.
pub fn translation_bar(sentences: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("translating {bar:30} {pos}/{len} sentences");
    ProgressBar::new(sentences as u64).with_style(style.expect("the template is a constant"))
}
