//! Passages of the samples: modern German and English, and Shakespeare's English.

use crate::text::ByteCorpus;
use crate::translation::ParallelText;

/// Maximum bytes of a passage.
const PASSAGE: usize = 250;
/// One of this many Shakespeare passages is taken, to have about as many as of the others.
const EVERY: usize = 4;

/// All passages, grouped by class, each with its class.
pub(super) fn passages() -> Vec<(String, String)> {
    let (pairs, plays) = (ParallelText::sample(), ByteCorpus::sample());
    let plays = str::from_utf8(plays.as_bytes()).expect("the sample is ASCII");
    // Lines without the speakers' names.
    let lines = plays
        .lines()
        .filter(|line| !line.is_empty() && !line.ends_with(':'));
    let classes = [
        ("English", joined(pairs.iter().map(|(english, _)| english))),
        ("German", joined(pairs.iter().map(|(_, german)| german))),
        (
            "Shakespeare",
            joined(lines).into_iter().step_by(EVERY).collect(),
        ),
    ];
    let of_class = |(class, passages): (&str, Vec<String>)| {
        let class = class.to_owned();
        passages
            .into_iter()
            .map(move |passage| (passage, class.clone()))
    };
    classes.into_iter().flat_map(of_class).collect()
}

/// Passages of as many whole sentences as fit, separated by spaces.
fn joined<'a>(sentences: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut passages = vec![String::new()];
    for sentence in sentences {
        let last = passages.last_mut().expect("there is one");
        if last.is_empty() {
            last.push_str(sentence);
        } else if last.len() + 1 + sentence.len() <= PASSAGE {
            *last += " ";
            *last += sentence;
        } else {
            passages.push(sentence.to_owned());
        }
    }
    passages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_are_whole_sentences() {
        assert_eq!(joined(["Ja.", "Nein."].into_iter()), ["Ja. Nein."]);
        let long = "x".repeat(PASSAGE - 3);
        let passages = joined(["a", &long, "b", "c"].into_iter());
        assert_eq!(passages, [format!("a {long}"), "b c".to_owned()]);
    }

    #[test]
    fn classes_are_of_similar_size() {
        let passages = passages();
        assert!(passages.iter().all(|(passage, _)| passage.len() <= PASSAGE));
        for class in ["English", "German", "Shakespeare"] {
            let n = passages.iter().filter(|(_, of)| of == class).count();
            assert!((700..1000).contains(&n), "{n} of {class}");
        }
    }
}
