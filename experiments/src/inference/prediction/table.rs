//! Writes records as JSON lines or as a table.

use std::io::Write;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::Value;

use super::records::Record;

/// Formats of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// A JSON object in each line
    Jsonl,
    /// A comma-separated table with the columns of the first record
    Csv,
}

/// Writes records one after another.
pub(crate) struct RecordWriter<'a> {
    output: &'a mut dyn Write,
    format: OutputFormat,
    /// The columns of a table, once a record was written.
    columns: Option<Vec<String>>,
}

impl<'a> RecordWriter<'a> {
    /// Writes to an output.
    pub(crate) fn new(output: &'a mut dyn Write, format: OutputFormat) -> Self {
        Self {
            output,
            format,
            columns: None,
        }
    }

    /// Writes a record.
    pub(crate) fn write(&mut self, record: &Record) -> Result<()> {
        let line = match self.format {
            OutputFormat::Jsonl => serde_json::to_vec(record).map(|mut line| {
                line.push(b'\n');
                line
            })?,
            OutputFormat::Csv => self.rows(record)?,
        };
        self.output.write_all(&line)?;
        Ok(())
    }

    /// Flushes the output.
    pub(crate) fn flush(&mut self) -> Result<()> {
        Ok(self.output.flush()?)
    }

    /// Writes a row of a table, and the names of its columns before the first row.
    fn rows(&mut self, record: &Record) -> Result<Vec<u8>> {
        let cells = cells(record);
        let mut table = csv::Writer::from_writer(Vec::new());
        if self.columns.is_none() {
            let columns: Vec<String> = cells.iter().map(|(name, _)| name.clone()).collect();
            table.write_record(&columns)?;
            self.columns = Some(columns);
        }
        let columns = self.columns.iter().flatten();
        table.write_record(columns.map(|column| {
            let cell = cells.iter().find(|(name, _)| name == column);
            cell.map_or("", |(_, text)| text)
        }))?;
        table.into_inner().context("a row cannot be written")
    }
}

/// The columns of a record, and their texts; an object field has a column for each of its fields.
fn cells(record: &Record) -> Vec<(String, String)> {
    let mut cells = Vec::new();
    for (name, value) in record.fields() {
        match value {
            Value::Object(parts) => cells.extend(
                parts
                    .iter()
                    .map(|(part, value)| (format!("{name}.{part}"), text(value))),
            ),
            value => cells.push((name.to_owned(), text(value))),
        }
    }
    cells
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn records_become_lines_and_rows() {
        let mut first = Record::of_text("text", "a, \"b\"");
        first.set("probabilities", json!({"x": 0.25, "y": 0.75}));
        let mut second = Record::of_text("other", "lost");
        second.set("text", "c");
        let written = |format| {
            let mut output = Vec::new();
            let mut writer = RecordWriter::new(&mut output, format);
            writer.write(&first).unwrap();
            writer.write(&second).unwrap();
            String::from_utf8(output).unwrap()
        };
        assert_eq!(
            written(OutputFormat::Jsonl),
            "{\"text\":\"a, \\\"b\\\"\",\"probabilities\":{\"x\":0.25,\"y\":0.75}}\n\
             {\"other\":\"lost\",\"text\":\"c\"}\n"
        );
        assert_eq!(
            written(OutputFormat::Csv),
            "text,probabilities.x,probabilities.y\n\"a, \"\"b\"\"\",0.25,0.75\nc,,\n"
        );
    }
}
