//! The quality of translations.

use std::collections::HashMap;
use std::fmt;

use crate::error::DatasetError;
use crate::translation::tokenize_13a::tokenize_13a;

/// Largest n-gram order.
const MAX_ORDER: usize = 4;

/// The BLEU score (Papineni et al., 2002) of a whole corpus, as sacreBLEU (Post, 2018) computes it
/// by default.
///
/// Translations are compared as text, not as pieces of a model, so scores of different vocabularies
/// are comparable. Scores are only comparable to others with the same
/// [`SIGNATURE`](Self::SIGNATURE).
///
/// # Example
///
/// ```
/// use reformer_datasets::translation::Bleu;
///
/// # fn main() -> Result<(), reformer_datasets::DatasetError> {
/// let bleu = Bleu::of_corpus(&["The cat sat on a mat."], &["The cat sat on the mat."])?;
/// assert_eq!(
///     bleu.to_string(),
///     "BLEU = 48.89 85.7/66.7/40.0/25.0 (BP = 1.000 ratio = 1.000 hyp_len = 7 ref_len = 7)"
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bleu {
    /// The score, 0 to 100.
    pub score: f64,
    /// N-gram precisions of orders 1, 2, 3 and 4, in percent.
    pub precisions: [f64; MAX_ORDER],
    /// Penalty of translations that are too short, 0 to 1.
    pub brevity_penalty: f64,
    /// Words of all translations.
    pub hypothesis_length: usize,
    /// Words of all references.
    pub reference_length: usize,
}

impl Bleu {
    /// How the score is computed, in sacreBLEU's notation: one reference for each sentence,
    /// case-sensitive, tokenised as in the WMT evaluations, orders without a match count as half, a
    /// quarter, ... of one.
    ///
    /// The version is that of the sacreBLEU whose scores these were checked against.
    pub const SIGNATURE: &str = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0";

    /// The score of translations (hypotheses), each with its reference.
    ///
    /// # Errors
    /// [`OtherSentences`](DatasetError::OtherSentences) when there are not as many references as
    /// hypotheses.
    pub fn of_corpus<H: AsRef<str>, R: AsRef<str>>(
        hypotheses: &[H],
        references: &[R],
    ) -> Result<Self, DatasetError> {
        let mut counts = Counts::default();
        for sentence in sentences(hypotheses, references)? {
            counts.join(&sentence);
        }
        Ok(counts.bleu())
    }
}

impl fmt::Display for Bleu {
    /// In sacreBLEU's format.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precisions = self.precisions.map(|precision| format!("{precision:.1}"));
        let ratio = match self.reference_length {
            0 => 0.0,
            length => self.hypothesis_length as f64 / length as f64,
        };
        write!(
            f,
            "BLEU = {:.2} {} (BP = {:.3} ratio = {ratio:.3} hyp_len = {} ref_len = {})",
            self.score,
            precisions.join("/"),
            self.brevity_penalty,
            self.hypothesis_length,
            self.reference_length
        )
    }
}

/// The counts of each sentence, if there are as many references as hypotheses.
pub(super) fn sentences<H: AsRef<str>, R: AsRef<str>>(
    hypotheses: &[H],
    references: &[R],
) -> Result<impl Iterator<Item = Counts>, DatasetError> {
    if hypotheses.len() != references.len() {
        return Err(DatasetError::OtherSentences {
            hypotheses: hypotheses.len(),
            references: references.len(),
        });
    }
    let pairs = hypotheses.iter().zip(references);
    Ok(pairs.map(|(hypothesis, reference)| Counts::of(hypothesis.as_ref(), reference.as_ref())))
}

/// The statistics of a sentence or a corpus from which the score is computed.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    /// N-grams of each order that also occur in the reference.
    matches: [usize; MAX_ORDER],
    /// N-grams of each order.
    totals: [usize; MAX_ORDER],
    hypothesis_length: usize,
    reference_length: usize,
}

impl Counts {
    /// The counts of a sentence.
    fn of(hypothesis: &str, reference: &str) -> Self {
        let mut counts = Self::default();
        counts.add(&tokenize_13a(hypothesis), &tokenize_13a(reference));
        counts
    }

    /// Adds the counts of another part.
    pub(super) fn join(&mut self, other: &Self) {
        for order in 0..MAX_ORDER {
            self.matches[order] += other.matches[order];
            self.totals[order] += other.totals[order];
        }
        self.hypothesis_length += other.hypothesis_length;
        self.reference_length += other.reference_length;
    }

    fn add(&mut self, hypothesis: &[String], reference: &[String]) {
        self.hypothesis_length += hypothesis.len();
        self.reference_length += reference.len();
        for order in 1..=MAX_ORDER {
            let in_reference = groups(reference, order);
            for (group, count) in groups(hypothesis, order) {
                let limit = in_reference.get(group).copied().unwrap_or(0);
                self.matches[order - 1] += count.min(limit);
                self.totals[order - 1] += count;
            }
        }
    }

    pub(super) fn bleu(&self) -> Bleu {
        let precisions = self.precisions();
        let (hypothesis, reference) = (self.hypothesis_length as f64, self.reference_length as f64);
        let brevity_penalty = if self.hypothesis_length >= self.reference_length {
            1.0
        } else {
            // 0 without any word.
            (1.0 - reference / hypothesis).exp()
        };
        // An order without any n-gram has the precision 0, and so does the score.
        let mean_log = precisions.iter().map(|p| p.ln()).sum::<f64>() / MAX_ORDER as f64;
        Bleu {
            score: brevity_penalty * mean_log.exp(),
            precisions,
            brevity_penalty,
            hypothesis_length: self.hypothesis_length,
            reference_length: self.reference_length,
        }
    }

    /// In percent. The `k`-th order without a match counts as `1 / 2^k` matches, unless no order
    /// has one.
    fn precisions(&self) -> [f64; MAX_ORDER] {
        let mut precisions = [0.0; MAX_ORDER];
        if self.matches == [0; MAX_ORDER] {
            return precisions;
        }
        let mut smoothed = 1.0;
        for (precision, (&matches, &total)) in precisions
            .iter_mut()
            .zip(self.matches.iter().zip(&self.totals))
        {
            if total == 0 {
                break;
            }
            let matches = if matches == 0 {
                smoothed /= 2.0;
                smoothed
            } else {
                matches as f64
            };
            *precision = 100.0 * matches / total as f64;
        }
        precisions
    }
}

/// The count of each n-gram of length `order`.
fn groups(words: &[String], order: usize) -> HashMap<&[String], usize> {
    let mut counts = HashMap::new();
    for group in words.windows(order) {
        *counts.entry(group).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_100_and_others_0() -> Result<(), DatasetError> {
        let text = ["One two three four.", "Five six."];
        assert!((Bleu::of_corpus(&text, &text)?.score - 100.0).abs() < 1e-9);
        assert_eq!(Bleu::of_corpus(&["a b c d"], &["e f g h"])?.score, 0.0);
        assert_eq!(Bleu::of_corpus(&["", ""], &text)?.score, 0.0);
        assert_eq!(Bleu::of_corpus::<&str, &str>(&[], &[])?.score, 0.0);
        // No 4-gram: sacreBLEU scores it 0 without `eff:yes`.
        assert_eq!(Bleu::of_corpus(&["a b"], &["a b"])?.score, 0.0);
        Ok(())
    }

    #[test]
    fn a_reference_is_needed_for_each_sentence() {
        let error = Bleu::of_corpus(&["a", "b"], &["a"]).expect_err("one is missing");
        assert_eq!(
            error.to_string(),
            "there are 2 translations, but 1 references: give each sentence one"
        );
    }
}
