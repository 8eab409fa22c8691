//! Rows of tokens, each of one class.

use std::fmt;
use std::iter::once;
use std::sync::Arc;

use crate::labelled::rows::{BEGIN, LabelledRows, RowsBuilder};
use crate::report::{ReadReport, grouped};

/// Vocabulary size of rows of bytes: all bytes, and [`BEGIN`].
pub(crate) const BYTES: usize = BEGIN as usize + 1;

/// Rows of tokens, each of one class: what a classifier reads, whether it was text, an image or a
/// formula. Clones share the rows.
#[derive(Clone)]
pub struct ClassifiedRows {
    rows: LabelledRows,
    classes: Arc<[String]>,
    report: Arc<ReadReport>,
}

impl fmt::Debug for ClassifiedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClassifiedRows")
            .field("rows", &self.rows)
            .field("classes", &self.classes)
            .finish_non_exhaustive()
    }
}

impl ClassifiedRows {
    /// Rows whose only target is the number of their class.
    ///
    /// # Panics
    /// When rows have another number of targets, or a class without a name.
    pub fn new(rows: LabelledRows, classes: Vec<String>, report: ReadReport) -> Self {
        assert_eq!(rows.n_targets(), 1, "a row has a class");
        let is_known = |row| usize::try_from(rows.targets(row)[0]).is_ok_and(|n| n < classes.len());
        assert!((0..rows.len()).all(is_known), "every class has a name");
        Self {
            rows,
            classes: classes.into(),
            report: Arc::new(report),
        }
    }

    /// The rows.
    pub fn rows(&self) -> &LabelledRows {
        &self.rows
    }

    /// Names of the classes, ordered by number.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Number of the class of a row.
    ///
    /// # Panics
    /// When there is no row of this number.
    pub fn class(&self, row: usize) -> usize {
        self.rows.targets(row)[0] as usize
    }

    /// What was read, with the numbers of rows in this set.
    pub fn report(&self) -> ReadReport {
        let numbers = (0..self.len()).map(|row| self.class(row));
        ReadReport::clone(&self.report).with_classes(&self.classes, numbers)
    }
}

/// Collects rows with a class each, all cut to a length.
pub(crate) struct ClassifiedBuilder {
    rows: RowsBuilder<1>,
    max_length: usize,
    n_rows: u64,
    n_cut: u64,
}

impl ClassifiedBuilder {
    /// No rows so far, of tokens below `vocab_size`, to be cut to `max_length` tokens, [`BEGIN`]
    /// among them.
    pub(crate) fn new(vocab_size: usize, max_length: usize) -> Self {
        Self {
            rows: RowsBuilder::new(vocab_size),
            max_length: max_length.max(1),
            n_rows: 0,
            n_cut: 0,
        }
    }

    /// Adds a row: [`BEGIN`], and these tokens.
    pub(crate) fn push(&mut self, tokens: impl Iterator<Item = u16>, class: usize) {
        let mut tokens = once(BEGIN).chain(tokens);
        self.rows
            .push(tokens.by_ref().take(self.max_length), [class as i32]);
        self.n_rows += 1;
        self.n_cut += u64::from(tokens.next().is_some());
    }

    /// Whether there are no rows so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.n_rows == 0
    }

    /// Notes how many rows were cut, for tasks whose answer is lost with the end of a row.
    pub(crate) fn note_cuts(&self, report: &mut ReadReport) {
        if self.n_cut > 0 {
            let (n, length) = (grouped(self.n_cut), self.max_length);
            report.note(format!("{n} rows are cut to {length} tokens"));
        }
    }

    /// The collected rows.
    pub(crate) fn build(self, classes: Vec<String>, report: ReadReport) -> ClassifiedRows {
        ClassifiedRows::new(self.rows.build(), classes, report)
    }
}
