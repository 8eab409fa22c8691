//! Passages of the plays in the sample of Shakespeare.

use crate::text::ByteCorpus;

/// Bytes of a passage at most.
const PASSAGE: usize = 400;

/// The plays of the sample in its order, each with how it begins there.
const PLAYS: [(&str, &str); 8] = [
    ("Coriolanus", "First Citizen:\nBefore we proceed"),
    ("Richard III", "GLOUCESTER:\nNow is the winter"),
    ("Richard II", "KING RICHARD II:\nOld John of Gaunt"),
    ("Romeo and Juliet", "SAMPSON:\nGregory, o' my word"),
    ("Henry VI", "WARWICK:\nI wonder how the king escaped"),
    ("The Winter's Tale", "ARCHIDAMUS:\nIf you shall chance"),
    ("Measure for Measure", "DUKE VINCENTIO:\nEscalus."),
    ("The Taming of the Shrew", "SLY:\nI'll pheeze you"),
];

/// All passages in the order of the text, each with its play: as many whole lines as fit.
pub(super) fn passages() -> Vec<(String, String)> {
    let corpus = ByteCorpus::sample();
    let text = str::from_utf8(corpus.as_bytes()).expect("the sample is ASCII");
    let begins = PLAYS.map(|(_, opening)| text.find(opening).expect("the sample has it"));
    let ends = begins.iter().skip(1).copied().chain([text.len()]);
    let plays = begins.iter().zip(ends).zip(PLAYS);
    plays
        .flat_map(|((&begin, end), (play, _))| {
            let passages = cut(&text[begin..end]);
            passages
                .into_iter()
                .map(move |passage| (passage, play.to_owned()))
        })
        .collect()
}

fn cut(text: &str) -> Vec<String> {
    let mut passages = vec![String::new()];
    for line in text.split_inclusive('\n') {
        let last = passages.last_mut().expect("there is one");
        if last.len() + line.len() > PASSAGE && !last.is_empty() {
            passages.push(line.to_owned());
        } else {
            last.push_str(line);
        }
    }
    passages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_are_the_whole_text() {
        let passages = passages();
        let text: String = passages
            .iter()
            .map(|(passage, _)| passage.as_str())
            .collect();
        assert_eq!(text.as_bytes(), ByteCorpus::sample().as_bytes());
        assert!(passages.iter().all(|(passage, _)| passage.len() <= PASSAGE));
        let mut plays: Vec<&str> = passages.iter().map(|(_, play)| play.as_str()).collect();
        plays.dedup();
        assert_eq!(plays, PLAYS.map(|(play, _)| play));
    }
}
