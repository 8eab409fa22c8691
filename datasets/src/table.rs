//! Tables in common formats: fields separated by tabs, commas, semicolons or bars.

use csv::{ReaderBuilder, StringRecord};

/// Possible separators of fields, in order of preference.
const SEPARATORS: [char; 4] = ['\t', ',', ';', '|'];

/// A table of text, whose first line names the columns.
///
/// ```
/// use reformer_datasets::Table;
///
/// let table = Table::new("id;text\n7;\"a; b\"\n", &["text"])?;
/// let text = table.column("text").unwrap();
/// let record = table.records().next().unwrap()?;
/// assert_eq!((record.line, &record.fields[text]), (2, "a; b"));
/// # Ok::<(), String>(())
/// ```
#[derive(Debug)]
pub struct Table<'a> {
    text: &'a str,
    separator: char,
    first_line: usize,
    header: StringRecord,
}

/// A record of a table.
#[derive(Debug, Clone)]
pub struct TableRecord {
    /// Number of its first line.
    pub line: usize,
    /// Its fields, as many as there are columns.
    pub fields: StringRecord,
}

impl<'a> Table<'a> {
    /// A table with some required columns, which also identify the separator.
    ///
    /// # Errors
    /// A description: a quote that is not closed or not doubled, or a first line that cannot be
    /// parsed.
    pub fn new(text: &'a str, wanted: &[&str]) -> Result<Self, String> {
        let (separator, text, first_line) = separator(text, wanted);
        let mut table = Self {
            text,
            separator,
            first_line,
            header: StringRecord::new(),
        };
        if table.has_quotes() {
            check_quotes(text, separator, first_line)?;
        }
        let header = table
            .reader()
            .headers()
            .map_err(|error| error.to_string())?
            .clone();
        table.header = header;
        Ok(table)
    }

    /// The name of the separator.
    pub fn separator(&self) -> String {
        match self.separator {
            '\t' => "tabs".to_owned(),
            other => format!("`{other}`"),
        }
    }

    /// Names of the columns.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.header.iter().map(column_name)
    }

    /// The index of a column, ignoring case.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns()
            .position(|column| column.eq_ignore_ascii_case(name))
    }

    /// The records in order.
    ///
    /// # Errors
    /// For each record: another number of fields than there are columns.
    pub fn records(&self) -> impl Iterator<Item = Result<TableRecord, String>> {
        let first_line = self.first_line;
        let line = move |position: Option<&csv::Position>| {
            position.map_or(0, csv::Position::line) as usize + first_line - 1
        };
        self.reader().into_records().map(move |record| {
            let fields = record.map_err(|error| match error.kind() {
                csv::ErrorKind::UnequalLengths {
                    pos,
                    expected_len,
                    len,
                } => format!(
                    "the record in line {} has {len} fields, but its first line has {expected_len}",
                    line(pos.as_ref())
                ),
                _ => error.to_string(),
            })?;
            Ok(TableRecord {
                line: line(fields.position()),
                fields,
            })
        })
    }

    /// In tables with tabs, quotes have no special meaning.
    fn has_quotes(&self) -> bool {
        self.separator != '\t'
    }

    fn reader(&self) -> csv::Reader<&'a [u8]> {
        ReaderBuilder::new()
            .delimiter(self.separator as u8)
            .quoting(self.has_quotes())
            .from_reader(self.text.as_bytes())
    }
}

/// The separator, the table without a line that only names it (`sep=;`, as spreadsheets write it),
/// and the number of its first line.
fn separator<'a>(text: &'a str, wanted: &[&str]) -> (char, &'a str, usize) {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let said = first.trim_end().trim_matches('"').strip_prefix("sep=");
    let said = said.and_then(|said| match said {
        // The end of the line was trimmed.
        "" if first.contains("sep=\t") => Some('\t'),
        said => said.chars().next().filter(|_| said.chars().count() == 1),
    });
    if let Some(said) = said.filter(char::is_ascii) {
        return (said, rest, 2);
    }
    let names_columns = |separator: &char| {
        let names: Vec<&str> = first.split(*separator).map(column_name).collect();
        let is_there = |column: &&str| names.iter().any(|name| name.eq_ignore_ascii_case(column));
        first.contains(*separator) && wanted.iter().all(is_there)
    };
    let named = SEPARATORS.into_iter().find(names_columns);
    let has_tabs = if first.contains('\t') { '\t' } else { ',' };
    (named.unwrap_or(has_tabs), text, 1)
}

/// A column's name without surrounding spaces and quotes; quotes after a space are no quotes.
fn column_name(field: &str) -> &str {
    field.trim().trim_matches('"').trim()
}

/// Checks that each field that starts with a quote ends with one: otherwise a quote that is missing
/// or not doubled joins all records up to the next quote into one field.
fn check_quotes(text: &str, separator: char, first_line: usize) -> Result<(), String> {
    let (bytes, separator) = (text.as_bytes(), separator as u8);
    let (mut line, mut position, mut starts_field) = (first_line, 0, true);
    while let Some(&byte) = bytes.get(position) {
        position += 1;
        if byte != b'"' || !starts_field {
            line += usize::from(byte == b'\n');
            starts_field = matches!(byte, b'\n' | b'\r') || byte == separator;
            continue;
        }
        let opened = line;
        loop {
            match (bytes.get(position), bytes.get(position + 1)) {
                (None, _) => {
                    return Err(format!(
                        "the quote that opens in line {opened} is not closed"
                    ));
                }
                (Some(b'"'), Some(b'"')) => position += 1,
                (Some(b'"'), None | Some(b'\r' | b'\n')) => break,
                (Some(b'"'), Some(&next)) if next == separator => break,
                (Some(b'"'), _) => {
                    return Err(format!(
                        "the quote that opens in line {opened} is closed in line {line}, but the field continues \
                         there: a quote in a field must be doubled"
                    ));
                }
                (Some(&inside), _) => line += usize::from(inside == b'\n'),
            }
            position += 1;
        }
        position += 1;
        starts_field = false;
    }
    Ok(())
}
