//! What was read from the data of a run.

use reformer_datasets::tokens::TokenCorpus;
use reformer_datasets::{ReadReport, Split, Splits};

/// What was read from the data.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DataReport {
    /// Of the training data.
    pub train: ReadReport,
    /// Of the validation data.
    pub valid: ReadReport,
    /// Mean bytes of text per token of the validation data, if tokens are not bytes and it is known: bits per
    /// byte are bits per token divided by this.
    pub bytes_per_token: Option<f64>,
}

impl DataReport {
    /// Of data that is evaluated as a whole.
    pub(crate) fn of_one(report: ReadReport) -> Self {
        Self {
            train: report.clone(),
            valid: report,
            bytes_per_token: None,
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
            bytes_per_token: None,
        }
    }

    /// Of splits of ids.
    pub(super) fn of_ids(
        train: &Split<TokenCorpus>,
        valid: &Split<TokenCorpus>,
        bytes_per_token: Option<f64>,
    ) -> Self {
        let report = |split: &Split<TokenCorpus>| {
            let report = split.corpus().report();
            let report = match split.corpus().text_bytes() {
                Some(n_bytes) => report.with_count(n_bytes, "bytes"),
                None => report,
            };
            report.with_count(split.len(), "tokens")
        };
        Self {
            train: report(train),
            valid: report(valid),
            bytes_per_token,
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
