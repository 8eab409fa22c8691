//! Questions made of sentences and their translations.

use std::ops::Range;

use rand::Rng;

use crate::labelled::questions::{Question, Questions};
use crate::sequences::random::{below, keyed_rng, shuffle};
use crate::translation::ParallelText;

/// One of this many different English sentences is held out for validation.
const VALID_EVERY: usize = 10;
/// Sentences per text.
const SENTENCES: usize = 4;
/// Number of texts for each answer of the training part, with different other sentences.
const TEXTS: usize = 4;

/// Questions for training and for validation.
pub(super) fn questions() -> [Questions; 2] {
    let parts = ParallelText::sample().split_by_source(VALID_EVERY);
    let [train, valid] = parts.expect("the sample has many sources");
    [made_of(&train, TEXTS), made_of(&valid, 1)]
}

/// Questions whose texts consist of these sentences only.
fn made_of(pairs: &ParallelText, n_texts: usize) -> Questions {
    let mut rng = keyed_rng(b"translated texts", 0, n_texts as u64);
    let questions = (0..n_texts)
        .flat_map(|text| (0..pairs.len()).map(move |pair| (text, pair)))
        .map(|(text, pair)| {
            let (english, german) = pairs.get(pair).expect("there are as many");
            let mut sentences = vec![english];
            while sentences.len() < SENTENCES {
                let (other, _) = pairs.get(below(&mut rng, pairs.len())).expect("below");
                if !sentences.contains(&other) {
                    sentences.push(other);
                }
            }
            let (context, answer) = joined(sentences, &mut rng);
            Question {
                id: format!("{pair}-{text}"),
                question: german.to_owned(),
                context: context.into(),
                answers: vec![answer],
            }
        });
    Questions::new("translated sentences", questions.collect())
}

/// The sentences in random order as a text, and the byte range of the first one.
fn joined(sentences: Vec<&str>, rng: &mut impl Rng) -> (String, Range<usize>) {
    let answer = sentences[0];
    let mut sentences = sentences;
    shuffle(rng, &mut sentences);
    let position = sentences.iter().position(|sentence| *sentence == answer);
    let before = &sentences[..position.expect("it is still there")];
    let start = before.iter().map(|sentence| sentence.len() + 1).sum();
    (sentences.join(" "), start..start + answer.len())
}
