//! Translates sentences with a trained model.

use std::path::Path;

use reformer_core::ConfigError;
use reformer_core::generation::{
    BeamConfig, DecodingConfig, Hypothesis, Seq2SeqDecoder, translate,
};
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::ReformerSeq2Seq;
use reformer_datasets::translation::Subwords;

use super::error::InferenceError;
use crate::data::pairs::load_subwords;
use crate::run::load_model;

/// Largest number of pieces that a translation may have beyond those of its source.
const MORE_PIECES: usize = 50;

/// An encoder-decoder and its vocabulary, which translate sentences.
#[derive(Debug)]
pub struct Translator<B: ReformerBackend> {
    model: ReformerSeq2Seq<B>,
    subwords: Subwords,
    beam: BeamConfig,
    batch_size: usize,
}

impl<B: ReformerBackend> Translator<B> {
    /// Opens the folder of a run on pairs of sentences, finished or not. Settings are those of [`new`](Self::new).
    ///
    /// # Errors
    /// A folder that is none, a model of another kind, files that cannot be read, weights that are not finite, or
    /// settings that cannot work.
    pub fn open(
        folder: &Path,
        beam: BeamConfig,
        batch_size: usize,
        device: &B::Device,
    ) -> Result<Self, InferenceError> {
        let (model, _) = load_model::<B>(folder, device)?;
        let model = model.into_seq2seq()?;
        Self::new(model, load_subwords(folder)?, beam, batch_size)
    }

    /// A translator for `batch_size` sentences at a time, by a beam search that
    /// [ends](BeamConfig::end) with the end token of the vocabulary.
    ///
    /// # Errors
    /// Settings that cannot work.
    pub fn new(
        model: ReformerSeq2Seq<B>,
        subwords: Subwords,
        beam: BeamConfig,
        batch_size: usize,
    ) -> Result<Self, InferenceError> {
        beam.validate()?;
        ConfigError::at_least_one("batch_size", batch_size)?;
        let end = Some(subwords.eos());
        Ok(Self {
            model,
            subwords,
            beam: beam.with_end(end),
            batch_size,
        })
    }

    /// The pieces of a sentence with its end token; none for a sentence of spaces only.
    ///
    /// # Errors
    /// A sentence that is longer than the model's positions, or that the vocabulary cannot encode.
    pub fn encode(&self, sentence: &str) -> Result<Vec<u32>, InferenceError> {
        if sentence.trim().is_empty() {
            return Ok(Vec::new());
        }
        let mut pieces = self.subwords.encode(sentence)?;
        pieces.push(self.subwords.eos());
        match self.model.encoder.position.max_length() {
            Some(limit) if pieces.len() > limit => Err(InferenceError::LongSentence {
                n_pieces: pieces.len(),
                limit,
            }),
            _ => Ok(pieces),
        }
    }

    /// The best translation of each sentence. `done` gets the number of sentences of each batch that is translated.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode) and [`translate_pieces`](Self::translate_pieces).
    pub fn translate<S: AsRef<str>>(
        &self,
        sentences: &[S],
        done: impl FnMut(usize),
    ) -> Result<Vec<String>, InferenceError> {
        let pieces = (1..).zip(sentences).map(|(number, sentence)| {
            let pieces = self.encode(sentence.as_ref());
            pieces.map_err(InferenceError::of(format!("sentence {number}")))
        });
        self.translate_pieces(&pieces.collect::<Result<Vec<_>, _>>()?, done)
    }

    /// The best translation of each [encoded](Self::encode) sentence, a line without its end; an empty sentence stays
    /// empty. Sentences of similar length are translated together; `done` gets the number of each batch.
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
    ) -> Result<Vec<String>, InferenceError> {
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

    /// Number of different pieces.
    pub fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    /// Largest number of pieces in the translation of a sentence with so many pieces.
    pub fn max_pieces(&self, n_pieces: usize) -> usize {
        let positions = self.model.decoder.position.max_length();
        (n_pieces + MORE_PIECES).min(positions.unwrap_or(usize::MAX))
    }

    /// Estimated memory of the caches, in bytes, for `n_texts` hypotheses at a time whose sentences have up to
    /// `n_pieces` pieces.
    pub fn cache_bytes(&self, n_texts: usize, n_pieces: usize) -> usize {
        let decoding = self.decoding(n_pieces);
        Seq2SeqDecoder::estimated_bytes(&self.model, n_texts, n_pieces, &decoding)
    }

    /// Targets are about as long as their sources, the longest of which has so many pieces.
    fn decoding(&self, longest: usize) -> DecodingConfig {
        DecodingConfig::new(longest).with_max_length(Some(self.max_pieces(longest)))
    }

    fn batch(&self, sources: &[Vec<u32>]) -> Result<Vec<String>, InferenceError> {
        let most = sources.iter().map(|source| self.max_pieces(source.len()));
        let most: Vec<usize> = most.collect();
        let longest = sources.iter().map(Vec::len).max().unwrap_or(0);
        let decoding = self.decoding(longest);
        let mut decoder = Seq2SeqDecoder::new(&self.model, sources, &decoding)?;
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
