//! Scores of a model, by the metrics of its task.

use std::fmt;

use reformer_core::kernels::ReformerBackend;
use reformer_datasets::labelled::AnswerScore;
use reformer_datasets::shown;
use serde::Serialize;

use crate::evaluation::{Evaluation, Measured};

/// Largest number of classes for which the confusion matrix is shown.
const MOST_CLASSES: usize = 20;
/// Largest number of classes for which the confusion matrix is computed.
const MOST_COUNTED: usize = 1000;

/// Scores of a model on some data. They show as lines of text, and serialise as JSON.
#[derive(Debug, Clone, Serialize)]
pub struct Scores {
    /// Kind of the model.
    pub model: &'static str,
    /// Unit of prediction: bytes, pieces, labels, borders of answers.
    pub unit: &'static str,
    /// Number of predictions.
    pub n_targets: usize,
    /// Mean negative log-likelihood, in nats.
    pub loss: f64,
    /// The same in bits.
    pub bits: f64,
    /// Bits per byte of text, for tokens of a tokenizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_byte: Option<f64>,
    /// Accuracy: share of targets with the largest logit, in percent.
    pub accuracy: f64,
    /// Scores of a classifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<ClassScores>,
    /// Scores of a model that answers questions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<AnswerScores>,
    /// Scores of a model that translates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bleu: Option<f64>,
    /// Number of measured sequences, if the measurement was interrupted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_after: Option<usize>,
}

/// Scores of a classifier.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassScores {
    /// Names of the classes.
    pub names: Vec<String>,
    /// Confusion matrix in numbers of texts: a row for each right class, a column for each predicted class. None
    /// if there are more than 1,000 classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Vec<Vec<usize>>>,
    /// Share of the most frequent class, in percent: the accuracy of always predicting it.
    pub majority: f64,
}

/// Scores of answers as SQuAD defines them, in percent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnswerScores {
    /// Answers that equal a right one.
    pub exact_match: f64,
    /// F1 of the words that answers share with right ones.
    pub f1: f64,
    /// Number of questions.
    pub n_questions: usize,
}

impl Scores {
    /// The scores of what an evaluation has [measured](Evaluation::measure), to its end or to where it was stopped.
    pub fn new<B: ReformerBackend>(evaluation: &Evaluation<B>, measured: &Measured) -> Self {
        let config = evaluation.config();
        let right = evaluation.classified().map(|rows| {
            let right = (0..rows.len()).map(|row| rows.class(row));
            ClassScores::new(rows.classes(), right.zip(measured.classes.iter().copied()))
        });
        let answers = evaluation.questions().map(|questions| {
            let answers = measured.answers.iter().map(String::as_str);
            AnswerScores::from(AnswerScore::of(questions.iter().zip(answers)))
        });
        Self {
            model: config.kind(),
            unit: match measured.bits_per_byte() {
                Some(_) => "token",
                None => config.data.token_name(),
            },
            n_targets: measured.n_targets,
            loss: measured.loss,
            bits: measured.bits(),
            bits_per_byte: measured.bits_per_byte(),
            accuracy: measured.accuracy(),
            classes: right,
            answers,
            bleu: None,
            stopped_after: None,
        }
    }
}

impl ClassScores {
    /// Counts pairs of a right and a predicted class.
    fn new(names: &[String], pairs: impl Iterator<Item = (usize, usize)>) -> Self {
        let pairs: Vec<_> = pairs.collect();
        let mut n_texts = vec![0_usize; names.len()];
        for (right, _) in &pairs {
            n_texts[*right] += 1;
        }
        let largest = n_texts.into_iter().max().unwrap_or(0);
        let majority = largest as f64 / pairs.len().max(1) as f64;
        // A model can have more classes than its data.
        let given = pairs.iter().map(|(_, given)| given + 1);
        let n_columns = given.max().unwrap_or(0).max(names.len());
        let confusion = (n_columns <= MOST_COUNTED).then(|| {
            let mut confusion = vec![vec![0; n_columns]; names.len()];
            for (right, given) in &pairs {
                confusion[*right][*given] += 1;
            }
            confusion
        });
        Self {
            names: names.to_vec(),
            confusion,
            majority: 100.0 * majority,
        }
    }
}

impl From<AnswerScore> for AnswerScores {
    fn from(score: AnswerScore) -> Self {
        Self {
            exact_match: score.exact_match,
            f1: score.f1,
            n_questions: score.n_questions,
        }
    }
}

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unit, bits, .. } = self;
        write!(f, "{} {unit}s: {bits:.4} bits per {unit}", self.n_targets)?;
        if let Some(bits) = self.bits_per_byte {
            write!(f, ", {bits:.4} bits per byte")?;
        }
        let (loss, accuracy) = (self.loss, self.accuracy);
        write!(f, " (loss {loss:.5}), {accuracy:.2} % of {unit}s right")?;
        if let Some(classes) = &self.classes {
            write!(f, "\n{classes}")?;
        }
        if let Some(answers) = &self.answers {
            write!(f, "\n{answers}")?;
        }
        Ok(())
    }
}

impl fmt::Display for AnswerScores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} questions: exact match {:.2} %, F1 {:.2} %",
            self.n_questions, self.exact_match, self.f1
        )
    }
}

impl fmt::Display for ClassScores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "The most frequent class alone would be right in {:.2} %.",
            self.majority
        )?;
        let n_classes = self.names.len();
        let Some(confusion) = self
            .confusion
            .as_ref()
            .filter(|_| n_classes <= MOST_CLASSES)
        else {
            return write!(f, " The table of {n_classes} classes is too wide to print.");
        };
        let counts = confusion.iter().flatten();
        let cell = 1 + counts.max().map_or(1, |most| most.to_string().len().max(2));
        let names: Vec<String> = self.names.iter().map(|name| shown(name)).collect();
        let name = names.iter().map(|name| name.chars().count()).max();
        let name = name.unwrap_or(0);
        write!(f, "\nRows: true class. Columns: predicted class.")?;
        write!(f, "\n{:name$}    ", "")?;
        let n_columns = confusion.first().map_or(0, Vec::len);
        // Names that are numbers themselves stand for their columns: others count from 1.
        let is_number = |name: &String| name.parse::<u16>().is_ok() && name.len() < cell;
        let are_numbers = names.iter().all(is_number);
        for number in 0..n_columns {
            match names.get(number).filter(|_| are_numbers) {
                Some(name) => write!(f, "{name:>cell$}")?,
                None => write!(f, "{:>cell$}", number + 1)?,
            }
        }
        for (number, (class, row)) in names.iter().zip(confusion).enumerate() {
            match are_numbers {
                true => write!(f, "\n{class:name$}    ")?,
                false => write!(f, "\n{class:name$} {:>2} ", number + 1)?,
            }
            for count in row {
                write!(f, "{count:>cell$}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_fits_into_the_table() {
        let names = ["x".repeat(1 << 16), "\u{1b}[2J\nb".to_owned()];
        let table = ClassScores::new(&names, [(0, 1), (1, 1)].into_iter()).to_string();
        assert!(
            table.lines().all(|line| line.chars().count() < 80),
            "{table}"
        );
        assert!(table.contains("\\u{1b}[2J\\nb"), "{table}");
        assert!(!table.contains('\u{1b}'), "{table}");
    }

    #[test]
    fn pairs_of_many_classes_are_not_counted() {
        let names: Vec<String> = (0..40_000).map(|number| number.to_string()).collect();
        let pairs = (0..40_000).map(|number| (number, number / 2));
        let scores = ClassScores::new(&names, pairs);
        assert_eq!(scores.confusion, None);
        assert!(scores.to_string().contains("40000 classes"));
        assert!((scores.majority - 100.0 / 40_000.0).abs() < 1e-9);
    }

    #[test]
    fn confusion_is_a_table() {
        let names = ["neg", "positive"].map(str::to_owned);
        let pairs = [(0, 0), (0, 1), (1, 1), (0, 0), (1, 2)];
        let scores = ClassScores::new(&names, pairs.into_iter());
        assert_eq!(
            scores.confusion.as_ref().unwrap()[..],
            [[2, 1, 0], [0, 1, 1]]
        );
        assert_eq!(
            scores.to_string(),
            "The most frequent class alone would be right in 60.00 %.\n\
             Rows: true class. Columns: predicted class.\n\
             \u{20}             1  2  3\n\
             neg       1   2  1  0\n\
             positive  2   0  1  1"
        );
    }
}
