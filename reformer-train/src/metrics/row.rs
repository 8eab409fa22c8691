//! Rows of `metrics.csv`, and reading them.

use std::fmt;
use std::path::Path;

use burn::train::metric::store::Split;

use crate::error::TrainError;
use crate::metrics::Quantity;
use crate::metrics::averages::Averages;
use crate::record::read_regular;

/// Columns before the measured values.
const FIRST_COLUMNS: [&str; 3] = ["step", "epoch", "split"];

/// The column of a quantity: its name in lower case, with underscores.
pub(crate) fn column(quantity: Quantity) -> String {
    quantity.name().to_lowercase().replace(' ', "_")
}

/// The first line.
pub(crate) fn header() -> String {
    let quantities = Quantity::ALL.map(column);
    let columns = FIRST_COLUMNS.map(str::to_owned).into_iter();
    columns.chain(quantities).collect::<Vec<_>>().join(",")
}

/// A row of `metrics.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Training steps done.
    pub step: usize,
    /// Number of the interval between evaluations, from 1.
    pub epoch: usize,
    /// `train`: a mean over the steps since the row before; `valid`: over the validation data.
    pub split: String,
    /// In the order of [`Quantity::ALL`]; `None` where a quantity was not measured.
    values: [Option<f64>; Quantity::ALL.len()],
}

impl Row {
    /// The measured value of a quantity.
    pub fn get(&self, quantity: Quantity) -> Option<f64> {
        let index = Quantity::ALL.iter().position(|other| *other == quantity)?;
        self.values[index]
    }

    /// Mean negative log-likelihood, in nats; NaN if it was not measured.
    pub fn loss(&self) -> f64 {
        self.get(Quantity::Loss).unwrap_or(f64::NAN)
    }

    pub(crate) fn set(&mut self, quantity: Quantity, value: f64) {
        if let Some(index) = Quantity::ALL.iter().position(|other| *other == quantity) {
            self.values[index] = Some(value);
        }
    }

    /// A row of the means of some steps.
    pub(crate) fn new(step: usize, epoch: usize, split: &Split, averages: &Averages) -> Self {
        Self {
            step,
            epoch,
            split: split.to_string(),
            values: Quantity::ALL.map(|quantity| averages.mean(quantity)),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(',').collect();
        let [step, epoch, split, values @ ..] = &fields[..] else {
            return None;
        };
        let value = |text: &&str| match text.is_empty() {
            true => Some(None),
            false => text.parse().ok().map(Some),
        };
        let values: Option<Vec<Option<f64>>> = values.iter().map(value).collect();
        Some(Self {
            step: step.parse().ok()?,
            epoch: epoch.parse().ok()?,
            split: (*split).to_owned(),
            values: values?.try_into().ok()?,
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.step, self.epoch, self.split)?;
        for value in self.values {
            match value.filter(|value| !value.is_nan()) {
                // Seven digits are what an `f32` holds.
                Some(value) => write!(f, ",{}", (value as f32))?,
                None => write!(f, ",")?,
            }
        }
        Ok(())
    }
}

/// Reads `metrics.csv`. Lines that are not valid rows are left out: a full disk or a killed run can
/// leave some.
///
/// # Errors
/// A file that cannot be read, or with other columns.
pub fn read_rows(path: &Path) -> Result<Vec<Row>, TrainError> {
    Ok(Lines::read(path)?.rows)
}

/// The lines of `metrics.csv`.
pub(crate) struct Lines {
    pub(crate) rows: Vec<Row>,
    /// Line numbers of invalid rows, from 1, including a last line without a line end.
    pub(crate) broken: Vec<usize>,
    pub(crate) is_ended: bool,
}

impl Lines {
    pub(crate) fn read(path: &Path) -> Result<Self, TrainError> {
        let bytes = read_regular(path).map_err(|source| TrainError::Read {
            path: path.to_owned(),
            source,
        })?;
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        let text = String::from_utf8_lossy(&bytes[..whole]);
        let mut lines = text.lines().enumerate();
        if lines.next().is_some_and(|(_, line)| line != header()) {
            return Err(TrainError::OtherColumns {
                path: path.to_owned(),
            });
        }
        let (mut rows, mut broken) = (Vec::new(), Vec::new());
        for (index, line) in lines {
            match Row::parse(line) {
                Some(row) => rows.push(row),
                None => broken.push(index + 1),
            }
        }
        Ok(Self {
            rows,
            broken,
            is_ended: whole > 0 && whole == bytes.len(),
        })
    }

    /// The error that describes invalid lines, if there are any; a killed run can leave an incomplete last one.
    pub(crate) fn error(&self, path: &Path) -> Option<TrainError> {
        let (first, others) = self.broken.split_first()?;
        Some(TrainError::BadRows {
            path: path.to_owned(),
            line: *first,
            n_others: others.len(),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A row with a loss and a perplexity.
    pub(crate) fn row(step: usize, split: &str) -> Row {
        let mut values = [None; Quantity::ALL.len()];
        values[0] = Some(0.5);
        values[2] = Some(0.1);
        Row {
            step,
            epoch: 1,
            split: split.to_owned(),
            values,
        }
    }

    #[test]
    fn rows_come_back() {
        assert_eq!(
            Row::parse(&row(7, "valid").to_string()),
            Some(row(7, "valid"))
        );
        assert_eq!(Row::parse("7,1,valid"), None);
    }
}
