//! Columns of Parquet files, read row group by row group and page by page.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::parquet::basic::Type as PhysicalType;
use ::parquet::column::page::{Page, PageMetadata, PageReader};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use ::parquet::data_type::DataType;
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use ::parquet::schema::types::{ColumnDescPtr, SchemaDescriptor};

use crate::error::DatasetError;
use crate::report::ReadReport;
use crate::tokens::documents::{Document, EMPTY, Take, WANTED};
use crate::tokens::json_lines::quoted;

/// Records that are read at a time.
const BATCH: usize = 64;
/// Maximum number of values that are read at a time, since a few bytes can stand for any number of
/// equal ones.
const MAX_VALUES: u64 = 1 << 26;

type Outcome = Result<ControlFlow<()>, DatasetError>;

/// Passes the entries of a column to `take`: texts, or lists of ids.
pub(super) fn read(
    path: &Path,
    column: &str,
    report: &mut ReadReport,
    take: &mut Take<'_>,
) -> Outcome {
    let file = open(path)?;
    let reader = guarded(path, || SerializedFileReader::new(file))?;
    let number = find(
        path,
        reader.metadata().file_metadata().schema_descr(),
        column,
    )?;
    report.files += 1;
    for group in 0..reader.num_row_groups() {
        let column = guarded(path, || {
            Column::open(&*reader.get_row_group(group)?, number)
        })?;
        let mut take = |document: Option<Document<'_>>| match document {
            Some(document) => take(document),
            None => {
                report.skip(EMPTY, path.display());
                Ok(ControlFlow::Continue(()))
            }
        };
        if column.read(path, &mut take)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn open(path: &Path) -> Result<File, DatasetError> {
    let unreadable = |source| DatasetError::from_io(path, source);
    let metadata = fs::metadata(path).map_err(unreadable)?;
    let path = path.to_owned();
    match (metadata.is_file(), metadata.is_dir()) {
        (true, _) => File::open(&path).map_err(|source| DatasetError::from_io(&path, source)),
        (_, true) => Err(DatasetError::Directory { path }),
        // It is read from its end on, which pipes do not allow.
        _ => Err(DatasetError::NoFile { path }),
    }
}

/// The result of the library, which refuses most damaged files, and panics on some.
fn guarded<T>(path: &Path, call: impl FnOnce() -> ParquetResult<T>) -> Result<T, DatasetError> {
    let malformed = |found: String| DatasetError::malformed(path, "a Parquet file", found);
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| malformed(error.to_string())),
        Err(_) => Err(malformed("it is damaged".to_owned())),
    }
}

/// The number of the column of this name, or of the only one in a group of this name.
fn find(path: &Path, schema: &SchemaDescriptor, name: &str) -> Result<usize, DatasetError> {
    let no_column = |found: String| DatasetError::NoColumn {
        path: path.to_owned(),
        column: name.to_owned(),
        wanted: WANTED,
        found,
    };
    let columns = schema.columns();
    let is_named = |column: &ColumnDescPtr| {
        let parts = column.path();
        parts.string() == name || parts.parts().first().is_some_and(|first| first == name)
    };
    let numbers: Vec<usize> = (0..columns.len())
        .filter(|&n| is_named(&columns[n]))
        .collect();
    let [number] = numbers[..] else {
        let names: Vec<String> = columns
            .iter()
            .map(|column| column.path().string())
            .collect();
        return Err(no_column(format!(" (it has {})", quoted(&names))));
    };
    let column = &columns[number];
    let kind = column.physical_type();
    match (kind, column.max_rep_level()) {
        (PhysicalType::BYTE_ARRAY, 0) | (PhysicalType::INT32 | PhysicalType::INT64, 1) => {
            Ok(number)
        }
        (_, 0) => Err(no_column(format!(" (it is of {kind})"))),
        _ => Err(no_column(format!(" (it is of lists of {kind})"))),
    }
}

/// A column of a row group.
struct Column {
    reader: ColumnReader,
    description: ColumnDescPtr,
    /// Values that may still be read.
    budget: Arc<AtomicU64>,
}

impl Column {
    fn open(group: &dyn RowGroupReader, number: usize) -> ParquetResult<Self> {
        let description = group.metadata().column(number).column_descr_ptr();
        let budget = Arc::new(AtomicU64::new(MAX_VALUES));
        let pages = Limited {
            pages: group.get_column_page_reader(number)?,
            budget: budget.clone(),
        };
        Ok(Self {
            reader: get_column_reader(description.clone(), Box::new(pages)),
            description,
            budget,
        })
    }

    /// Passes the entries to `take`, `None` for an empty one.
    fn read(self, path: &Path, take: &mut dyn FnMut(Option<Document<'_>>) -> Outcome) -> Outcome {
        let Self {
            reader,
            description,
            budget,
        } = self;
        let levels = [description.max_def_level(), description.max_rep_level()];
        let records = Records {
            path,
            levels,
            budget,
        };
        match reader {
            ColumnReader::ByteArrayColumnReader(reader) => records.each(reader, |texts| {
                let Some(text) = texts.first() else {
                    return take(None);
                };
                let text = str::from_utf8(text.data()).map_err(|_| {
                    DatasetError::malformed(path, "a Parquet file of texts", "one is not UTF-8")
                });
                take(Some(Document::Text(text?)))
            }),
            ColumnReader::Int32ColumnReader(reader) => records.each(reader, |ids| {
                let ids: Vec<i64> = ids.iter().copied().map(i64::from).collect();
                take(Some(Document::Ids(&ids)).filter(|_| !ids.is_empty()))
            }),
            ColumnReader::Int64ColumnReader(reader) => records.each(reader, |ids| {
                take(Some(Document::Ids(ids)).filter(|_| !ids.is_empty()))
            }),
            _ => unreachable!("its type was checked"),
        }
    }
}

/// How the values of a column are divided into records.
struct Records<'a> {
    path: &'a Path,
    /// Maximum definition level, which a value has, and maximum repetition level: 0 begins a
    /// record.
    levels: [i16; 2],
    budget: Arc<AtomicU64>,
}

impl Records<'_> {
    /// Passes the values of each record to `take`.
    fn each<T: DataType>(
        &self,
        mut reader: ColumnReaderImpl<T>,
        mut take: impl FnMut(&[T::T]) -> Outcome,
    ) -> Outcome {
        let [value_level, repetition] = self.levels;
        let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            definitions.clear();
            repetitions.clear();
            values.clear();
            self.budget.store(MAX_VALUES, Ordering::Relaxed);
            let (_, n_values, n_levels) = guarded(self.path, || {
                let (definitions, repetitions) = (&mut definitions, &mut repetitions);
                reader.read_records(BATCH, Some(definitions), Some(repetitions), &mut values)
            })?;
            if n_levels == 0 {
                return Ok(ControlFlow::Continue(()));
            }
            let begins = |level: usize| repetition == 0 || repetitions.get(level) == Some(&0);
            let is_value =
                |level: usize| value_level == 0 || definitions.get(level) == Some(&value_level);
            let (mut first, mut end) = (0, 0);
            for level in 0..n_levels {
                end = n_values.min(end + usize::from(is_value(level)));
                if level + 1 == n_levels || begins(level + 1) {
                    if take(&values[first..end])?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                    first = end;
                }
            }
        }
    }
}

/// The pages of a column, as many as may be held in memory at a time.
struct Limited {
    pages: Box<dyn PageReader>,
    budget: Arc<AtomicU64>,
}

impl Iterator for Limited {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Limited {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        let page = self.pages.get_next_page()?;
        if let Some(page) = &page {
            let n_values = u64::from(page.num_values());
            let left = self.budget.load(Ordering::Relaxed).checked_sub(n_values);
            let left = left.ok_or_else(|| {
                let limit = format!("more than {MAX_VALUES} values in a page or a few records");
                ParquetError::General(limit)
            })?;
            self.budget.store(left, Ordering::Relaxed);
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> ParquetResult<bool> {
        self.pages.at_record_boundary()
    }
}
