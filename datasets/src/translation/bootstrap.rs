//! Significance of a difference between two translators.

use super::bleu::{Counts, sentences};
use crate::error::DatasetError;
use crate::sequences::random::{below, keyed_rng};

/// The difference between the BLEU scores of two translators, with the interval that contains 95 %
/// of its bootstrap samples: the paired bootstrap (Koehn, 2004).
///
/// # Example
///
/// ```
/// use reformer_datasets::translation::BleuDifference;
///
/// # fn main() -> Result<(), reformer_datasets::DatasetError> {
/// let references = ["The cat sat on the mat.", "It was a fat cat."];
/// let first = [["The cat sat on a mat.", "It was a fat cat."]];
/// let second = [references];
/// let difference = BleuDifference::new(&first, &second, &references, 100, 1)?;
/// assert!(difference.difference > 0.0 && difference.interval[0] >= 0.0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BleuDifference {
    /// Score of the second minus that of the first, each over all its translations.
    pub difference: f64,
    /// The 2.5 % and 97.5 % quantiles of the samples.
    pub interval: [f64; 2],
}

impl BleuDifference {
    /// Compares translations of the same sentences. Each translator can have several translations
    /// of all of them, such as from models of several seeds: they are sampled together. The samples
    /// depend on the seed.
    ///
    /// # Errors
    /// [`OtherSentences`](DatasetError::OtherSentences) when some translation does not have a
    /// sentence for each reference.
    ///
    /// # Panics
    /// Without any sample.
    pub fn new<T: AsRef<[S]>, S: AsRef<str>, R: AsRef<str>>(
        first: &[T],
        second: &[T],
        references: &[R],
        n_samples: usize,
        seed: u64,
    ) -> Result<Self, DatasetError> {
        assert!(n_samples > 0, "a bootstrap needs samples");
        let both = [counts(first, references)?, counts(second, references)?];
        let difference = |sentences: &[usize]| {
            let [first, second] = both.each_ref().map(|counts| {
                let mut sum = Counts::default();
                sentences.iter().for_each(|&i| sum.join(&counts[i]));
                sum.bleu().score
            });
            second - first
        };
        let n = references.len();
        let mut sampled: Vec<f64> = (0..n_samples as u64)
            .map(|number| {
                let mut rng = keyed_rng(b"paired bootstrap", seed, number);
                let sentences: Vec<usize> = (0..n).map(|_| below(&mut rng, n)).collect();
                difference(&sentences)
            })
            .collect();
        sampled.sort_by(f64::total_cmp);
        let quantile = |share: f64| sampled[(share * (n_samples - 1) as f64).round() as usize];
        Ok(Self {
            difference: difference(&(0..n).collect::<Vec<_>>()),
            interval: [quantile(0.025), quantile(0.975)],
        })
    }
}

/// For each sentence, the counts of all its translations.
fn counts<T: AsRef<[S]>, S: AsRef<str>, R: AsRef<str>>(
    translations: &[T],
    references: &[R],
) -> Result<Vec<Counts>, DatasetError> {
    let mut counts = vec![Counts::default(); references.len()];
    for translation in translations {
        for (counts, sentence) in counts
            .iter_mut()
            .zip(sentences(translation.as_ref(), references)?)
        {
            counts.join(&sentence);
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translation::Bleu;

    /// Sentences of ten words, of which a translation has all right, or all but the last one.
    fn translated(right: impl Fn(usize) -> bool) -> Vec<String> {
        let words = |i: usize| (0..9).map(move |word| format!("w{}", (i * 7 + word) % 90));
        let sentence = |i: usize| {
            let last = if right(i) { "end" } else { "other" };
            words(i)
                .chain([last.to_owned()])
                .collect::<Vec<_>>()
                .join(" ")
        };
        (0..200).map(sentence).collect()
    }

    #[test]
    fn a_real_difference_is_told_from_none() {
        let references = translated(|_| true);
        let [half, other_half, most] = [
            translated(|i| i % 2 == 0),
            translated(|i| i % 2 == 1),
            translated(|i| i % 10 > 0),
        ];
        let of = |a: &Vec<String>, b: &Vec<String>| {
            BleuDifference::new(&[a], &[b], &references, 500, 3).unwrap()
        };
        let none = of(&half, &other_half);
        assert!(none.interval[0] < 0.0 && none.interval[1] > 0.0, "{none:?}");
        let some = of(&half, &most);
        assert!(some.interval[0] > 0.0, "{some:?}");
        assert!(some.difference > some.interval[0] && some.difference < some.interval[1]);
        assert_eq!(some, of(&half, &most));
    }

    #[test]
    fn the_difference_is_that_of_the_scores() {
        let references = translated(|_| true);
        let [half, most] = [translated(|i| i % 2 == 0), translated(|i| i % 10 > 0)];
        let score = |own: &[String]| Bleu::of_corpus(own, &references).unwrap().score;
        let found = BleuDifference::new(&[&half], &[&most], &references, 1, 0).unwrap();
        assert!((found.difference - (score(&most) - score(&half))).abs() < 1e-9);
        // Duplicated translations give the same interval.
        let twice = BleuDifference::new(&[&half, &half], &[&most, &most], &references, 1, 0);
        assert!((twice.unwrap().difference - found.difference).abs() < 1e-9);
    }

    #[test]
    fn other_sentences_are_refused() {
        let references = ["a", "b"];
        let result = BleuDifference::new(&[["a"]], &[["a"]], &references, 1, 0);
        assert!(matches!(result, Err(DatasetError::OtherSentences { .. })));
    }
}
