//! Texts as ids.

use rayon::prelude::*;

use crate::error::DatasetError;
use crate::text::Split;
use crate::tokens::SubwordsConfig;
use crate::tokens::corpus::{Ids, TokenCorpus};
use crate::tokens::pieces::{Piece, Pieces, next_character};
use crate::tokens::tokenizer::Tokenizer;

/// Pieces that are encoded at a time, by all threads.
const BATCH: usize = 64;
/// Bytes of a text on which a tokenizer is trained.
const MAX_TRAINED_ON: usize = 256 << 20;

/// Ids that are decoded to count their bytes, and those of a run.
const MAX_DECODED: usize = 1 << 22;
const RUN: usize = 1 << 12;

/// The ids of a split of a text, as a corpus of its own.
///
/// The text is encoded in pieces of about 64 KiB, by all threads, and never held in memory as a
/// whole. A piece ends before a space after a word, so the ids are those of the whole text; only
/// where a MiB has no such position, the ids next to a cut may be others. A byte 0 ends a text
/// among several: it becomes the tokenizer's [`end`](Tokenizer::end), or, if it has none, what it
/// makes of that character. A border of the split in a character moves behind it.
///
/// The corpus knows the number of bytes of the split, even if the tokenizer changes the text (as
/// SentencePiece does with several spaces).
///
/// # Errors
/// [`NotUtf8`](DatasetError::NotUtf8), or [`Tokenizer`](DatasetError::Tokenizer) for a character
/// that the vocabulary does not know.
pub fn encode(split: &Split, tokenizer: &Tokenizer) -> Result<Split<TokenCorpus>, DatasetError> {
    let unwritable = |source| DatasetError::from_io(split.corpus().name().as_ref(), source);
    let end = match tokenizer.end() {
        Some(end) => vec![end],
        None => tokenizer.encode("\0")?,
    };
    let mut ids = Ids::new(tokenizer.vocab_size());
    let mut pieces = pieces(split, tokenizer.drops_space());
    loop {
        let batch = pieces.by_ref().take(BATCH);
        let batch: Vec<Piece> = batch.collect::<Result<_, _>>()?;
        if batch.is_empty() {
            break;
        }
        let encoded = batch.par_iter().map(|piece| match piece.text {
            // Some tokenizers add a space.
            "" => Ok(Vec::new()),
            text => tokenizer.encode(text),
        });
        let encoded: Vec<Result<Vec<u32>, DatasetError>> = encoded.collect();
        for (piece, found) in batch.iter().zip(encoded) {
            let end = end.iter().filter(|_| piece.ends).copied();
            for id in found?.into_iter().chain(end) {
                ids.push(id).map_err(unwritable)?;
            }
        }
    }
    let (bytes, width) = ids.into_bytes().map_err(unwritable)?;
    let report = split.corpus().report();
    let corpus = TokenCorpus::of(report, bytes, width, tokenizer.vocab_size());
    Ok(corpus.with_text_bytes(split.len()).whole_as(split.name()))
}

/// Bytes of text that an id of a split represents, on average, as a tokenizer decodes it: of the
/// first 4,194,304 ids, in runs of 4,096, at whose ends a cut character counts as three bytes.
/// `None` without ids.
///
/// # Errors
/// [`Tokenizer`](DatasetError::Tokenizer) for ids that cannot be put together.
pub fn decoded_bytes_per_token(
    split: &Split<TokenCorpus>,
    tokenizer: &Tokenizer,
) -> Result<Option<f64>, DatasetError> {
    let n_ids = split.len().min(MAX_DECODED);
    let ids = split.corpus().ids_from(split.range().start).take(n_ids);
    let ids: Vec<u32> = ids.collect();
    let runs = ids.par_chunks(RUN).map(|run| tokenizer.decode(run));
    let lengths: Vec<usize> = runs
        .map(|text| text.map(|text| text.len()))
        .collect::<Result<_, _>>()?;
    let n_bytes: usize = lengths.into_iter().sum();
    Ok((n_bytes > 0).then(|| n_bytes as f64 / n_ids as f64))
}

/// Trains a tokenizer on a split of a text: byte pair encoding with `vocab_size` entries, or fewer
/// if the text has fewer pieces.
///
/// Entries are pieces of words with the space before them, and consist of bytes: nothing is
/// unknown, and decoding is the inverse of encoding. Three are special; `</s>` ends a text. Of a
/// text beyond 256 MiB, every `n`-th piece of about 64 KiB is read.
///
/// # Errors
/// [`Setting`](crate::SizeError::Setting) for a vocabulary below 259,
/// [`NotUtf8`](DatasetError::NotUtf8), or [`Tokenizer`](DatasetError::Tokenizer).
pub fn train_tokenizer(split: &Split, vocab_size: usize) -> Result<Tokenizer, DatasetError> {
    let mut failed = None;
    let every = split.len().div_ceil(MAX_TRAINED_ON).max(1);
    let pieces = pieces(split, false).map_while(|piece| match piece {
        Ok(piece) => Some(piece.text),
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    let config = SubwordsConfig::new(vocab_size).with_prefix_space(false);
    let trained = config.train(pieces.step_by(every));
    match failed {
        Some(error) => Err(error),
        None => Ok(trained?.into()),
    }
}

/// The pieces of a split, whose borders move to the next character.
fn pieces(split: &Split, drops_space: bool) -> Pieces<'_> {
    let corpus = split.corpus();
    let text = corpus.as_bytes();
    let range = split.range();
    let [start, end] = [range.start, range.end].map(|position| next_character(text, position));
    Pieces::new(corpus.name(), &text[start..end], start, drops_space)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{ByteCorpus, Corpus, SplitName};

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn ids(split: &Split<TokenCorpus>) -> Vec<u32> {
        split.corpus().ids_from(0).collect()
    }

    fn text(text: impl Into<Vec<u8>>) -> Result<Split, DatasetError> {
        Ok(ByteCorpus::from_bytes("text", text)?.whole_as(SplitName::Train))
    }

    #[test]
    fn pieces_have_the_ids_of_the_whole() -> Outcome {
        // Three pieces.
        let split = text(&ByteCorpus::sample().as_bytes()[..150_000])?;
        let tokenizer = train_tokenizer(&split, 400)?;
        let whole = tokenizer.encode(str::from_utf8(split.as_bytes())?)?;
        let encoded = encode(&split, &tokenizer)?;
        assert!(ids(&encoded) == whole);
        assert_eq!(encoded.corpus().vocab_size(), 400);
        assert_eq!(encoded.corpus().text_bytes(), Some(150_000));
        let ratio = encoded.bytes_per_token().ok_or("it is of text")?;
        assert_eq!(ratio, 150_000.0 / whole.len() as f64);
        assert_eq!(tokenizer.decode(&whole)?.as_bytes(), split.as_bytes());
        Ok(())
    }

    #[test]
    fn bytes_of_ids_are_counted_by_decoding() -> Outcome {
        let split = text("the cat sat on the mat. ".repeat(2_000))?;
        let tokenizer = train_tokenizer(&split, 270)?;
        let encoded = encode(&split, &tokenizer)?;
        let counted = decoded_bytes_per_token(&encoded, &tokenizer)?;
        assert_eq!(counted, encoded.bytes_per_token());
        Ok(())
    }

    #[test]
    fn zero_bytes_become_the_end_of_a_text() -> Outcome {
        let split = text("one\0\0two")?;
        let tokenizer = train_tokenizer(&split, 260)?;
        let end = tokenizer.end().ok_or("it has one")?;
        let [one, two] = ["one", "two"].map(|word| tokenizer.encode(word));
        assert_eq!(
            ids(&encode(&split, &tokenizer)?),
            [one?, vec![end, end], two?].concat()
        );
        Ok(())
    }

    #[test]
    fn borders_move_behind_characters() -> Outcome {
        // The borders are at 18 and 19 of 20 bytes: inside the last character but one and the last.
        let corpus = ByteCorpus::from_bytes("text", "0123456789abcdefgüx")?;
        let splits = corpus.split();
        assert_eq!(splits.train.len(), 18);
        let tokenizer = train_tokenizer(&splits.train, 259)?;
        let decoded = |split| tokenizer.decode(&ids(&encode(split, &tokenizer)?));
        assert_eq!(decoded(&splits.train)?, "0123456789abcdefgü");
        assert_eq!(decoded(&splits.valid)?, "");
        assert_eq!(decoded(&splits.test)?, "x");
        Ok(())
    }

    #[test]
    fn what_is_no_text_is_refused() -> Outcome {
        let split = text(b"one\xfftwo")?;
        let error = train_tokenizer(&split, 300).expect_err("0xff");
        assert!(
            matches!(error, DatasetError::NotUtf8 { position: 3, .. }),
            "{error}"
        );
        let tokenizer = train_tokenizer(&text("one")?, 300)?;
        assert!(encode(&split, &tokenizer).is_err());
        Ok(())
    }
}
