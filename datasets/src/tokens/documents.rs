//! The entries of a column, one after the other.

use std::ops::ControlFlow;
use std::path::Path;

use crate::error::DatasetError;
use crate::report::ReadReport;
use crate::tokens::column::ColumnFormat;

/// An entry of a column.
#[derive(Debug, PartialEq)]
pub(super) enum Document<'a> {
    Text(&'a str),
    Ids(&'a [i64]),
}

/// Takes entries until it has enough.
pub(super) type Take<'a> = dyn FnMut(Document<'_>) -> Result<ControlFlow<()>, DatasetError> + 'a;

/// Why entries are left out.
pub(super) const EMPTY: &str = "records with an empty column";
/// The expected content of a column.
pub(super) const WANTED: &str = "of texts or lists of ids";

/// Passes the entries of a column of a file to `take`. The report counts it, and what is left out.
pub(super) fn read_documents(
    path: &Path,
    format: ColumnFormat,
    column: &str,
    report: &mut ReadReport,
    take: &mut Take<'_>,
) -> Result<ControlFlow<()>, DatasetError> {
    match format {
        ColumnFormat::JsonLines => super::json_lines::read(path, column, report, take),
        #[cfg(feature = "parquet")]
        ColumnFormat::Parquet => super::parquet::read(path, column, report, take),
        #[cfg(not(feature = "parquet"))]
        ColumnFormat::Parquet => Err(DatasetError::NoParquet {
            path: path.to_owned(),
        }),
    }
}
