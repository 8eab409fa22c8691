//! What was read from the data of a run.

use reformer_datasets::{ReadReport, Split, Splits};

/// What was read from the data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataReport {
    /// Of the training data.
    pub train: ReadReport,
    /// Of the validation data.
    pub valid: ReadReport,
}

impl DataReport {
    /// Of data that is evaluated as a whole.
    pub(crate) fn of_one(report: ReadReport) -> Self {
        Self {
            train: report.clone(),
            valid: report,
        }
    }

    /// Of the splits of a corpus.
    pub(super) fn of_splits(splits: &Splits) -> Self {
        let report = |split: &Split| {
            let report = split.corpus().report();
            report.with_count(split.len(), "tokens")
        };
        Self {
            train: report(&splits.train),
            valid: report(&splits.valid),
        }
    }

    /// The same with the number of tokens of both splits.
    pub(crate) fn count_tokens(&mut self, train: usize, valid: usize) {
        let count = |report: &mut ReadReport, n| {
            *report = std::mem::take(report).with_count(n, "tokens");
        };
        count(&mut self.train, train);
        count(&mut self.valid, valid);
    }
}
