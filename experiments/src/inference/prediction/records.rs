//! Records for a model to label: texts with their other fields.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use reformer_datasets::{Table, TableRecord};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::cli::input::Lines;

/// Named fields, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Record(Vec<(String, Value)>);

impl Record {
    /// A record with a text.
    pub(crate) fn of_text(field: &str, text: impl Into<String>) -> Self {
        Self(vec![(field.to_owned(), Value::String(text.into()))])
    }

    /// The fields in order.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
    pub(crate) fn get(&self, field: &str) -> Option<&Value> {
        let found = self.0.iter().find(|(name, _)| name == field);
        found.map(|(_, value)| value)
    }

    /// The text of a field.
    pub(crate) fn text(&self, field: &str) -> Result<&str> {
        let names = || self.0.iter().map(|(name, _)| name.as_str());
        match self.get(field) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => bail!("its field `{field}` is not text"),
            None => bail!(
                "it has no field `{field}`, but {}",
                names().collect::<Vec<_>>().join(", ")
            ),
        }
    }

    /// Sets a field: replaces it if it exists, otherwise appends it.
    pub(crate) fn set(&mut self, field: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.0.iter_mut().find(|(name, _)| name == field) {
            Some((_, old)) => *old = value,
            None => self.0.push((field.to_owned(), value)),
        }
    }

    /// The record of a JSON object or of a JSON string.
    fn of_json(value: Value, field: &str) -> Result<Self> {
        match value {
            Value::Object(fields) => Ok(Self(fields.into_iter().collect())),
            Value::String(text) => Ok(Self::of_text(field, text)),
            _ => bail!("it is neither an object of JSON nor a text"),
        }
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.fields())
    }
}

/// How records are written in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputFormat {
    /// Each line is a text.
    Lines,
    /// The whole file is one text.
    Whole,
    /// A table with names of columns in its first line, between tabs, commas, semicolons or bars.
    Csv,
    /// An object of JSON in each line.
    Jsonl,
    /// A list of objects, or a file of SQuAD, whose answers are not used
    Json,
}

impl InputFormat {
    /// The format that the ending of a file's name stands for.
    pub(crate) fn of_path(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        match ending.as_str() {
            "csv" | "tsv" => Some(Self::Csv),
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    /// The records of a text. A text that is not a record becomes its `field`.
    pub(crate) fn read(self, lines: Lines, field: &'static str) -> Result<Records> {
        Ok(match self {
            Self::Lines => Box::new(lines.map(move |line| Ok(Record::of_text(field, line?)))),
            Self::Whole => {
                let text = lines.rest()?;
                let text = text.strip_suffix('\n').unwrap_or(&text);
                Box::new(std::iter::once(Ok(Record::of_text(field, text))))
            }
            Self::Jsonl => Box::new(json_lines(lines, field)),
            Self::Csv => Box::new(table(&lines.rest()?, field)?.into_iter().map(Ok)),
            Self::Json => Box::new(json(&lines.rest()?, field)?.into_iter().map(Ok)),
        })
    }
}

/// Records, read one at a time.
pub(crate) type Records = Box<dyn Iterator<Item = Result<Record>>>;

fn json_lines(mut lines: Lines, field: &'static str) -> impl Iterator<Item = Result<Record>> {
    std::iter::from_fn(move || {
        loop {
            let line = match lines.next()? {
                Ok(line) if line.trim().is_empty() => continue,
                Ok(line) => line,
                Err(error) => return Some(Err(error)),
            };
            let record = serde_json::from_str(&line)
                .map_err(|error| anyhow!("it is not JSON: {error}"))
                .and_then(|value| Record::of_json(value, field));
            return Some(record.with_context(|| lines.place()));
        }
    })
}

/// The records of a table.
fn table(text: &str, field: &str) -> Result<Vec<Record>> {
    let wrong = |error: String| anyhow!("the table cannot be read: {error}");
    let table = Table::new(text, &[field]).map_err(wrong)?;
    let names: Vec<String> = table.columns().map(str::to_owned).collect();
    let record = |record: Result<TableRecord, String>| {
        let values = record.map_err(wrong)?.fields;
        let fields = names.iter().cloned().zip(values.iter().map(Value::from));
        Ok(Record(fields.collect()))
    };
    table.records().map(record).collect()
}

/// The records of a JSON document.
fn json(text: &str, field: &str) -> Result<Vec<Record>> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| anyhow!("the input is not JSON: {error}"))?;
    match value {
        Value::Array(values) => (1..)
            .zip(values)
            .map(|(number, value)| {
                Record::of_json(value, field).with_context(|| format!("record {number}"))
            })
            .collect(),
        Value::Object(mut file) => match file.remove("data") {
            Some(Value::Array(articles)) => Ok(articles.iter().flat_map(squad).collect()),
            _ => bail!("the input is neither a list of JSON nor a file of SQuAD"),
        },
        _ => bail!("the input is neither a list of JSON nor a file of SQuAD"),
    }
}

/// The questions of an article of SQuAD.
fn squad(article: &Value) -> Vec<Record> {
    let list = |value: &Value, field: &str| match value.get(field) {
        Some(Value::Array(items)) => items.clone(),
        Some(item @ Value::Object(_)) => vec![item.clone()],
        _ => vec![],
    };
    let mut records = Vec::new();
    for paragraph in list(article, "paragraphs") {
        for asked in list(&paragraph, "qas") {
            let mut record = Record::default();
            for (field, value) in [
                ("id", asked.get("id")),
                ("question", asked.get("question")),
                ("context", paragraph.get("context")),
            ] {
                if let Some(value) = value {
                    record.set(field, value.clone());
                }
            }
            records.push(record);
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: InputFormat, text: &str) -> Result<Vec<String>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("input");
        std::fs::write(&path, text)?;
        let records = format.read(Lines::open(Some(&path))?, "text")?;
        records
            .map(|record| Ok(serde_json::to_string(&record?)?))
            .collect()
    }

    #[test]
    fn records_come_from_every_format() {
        let both = [r#"{"text":"a"}"#, r#"{"text":"b, \"c\""}"#];
        for (format, text) in [
            (InputFormat::Lines, "a\nb, \"c\"\n"),
            (InputFormat::Csv, "text\na\n\"b, \"\"c\"\"\"\n"),
            (InputFormat::Csv, "\u{feff}text\r\na\r\n\"b, \"\"c\"\"\""),
            (
                InputFormat::Jsonl,
                "{\"text\": \"a\"}\n\n\"b, \\\"c\\\"\"\n",
            ),
            (InputFormat::Json, r#"["a", {"text": "b, \"c\""}]"#),
        ] {
            assert_eq!(read(format, text).unwrap(), both, "{format:?}");
        }
        assert_eq!(
            read(InputFormat::Whole, "a\nb\n").unwrap(),
            [r#"{"text":"a\nb"}"#]
        );
        let columns = read(InputFormat::Csv, "id;text\n7;x\n").unwrap();
        assert_eq!(columns, [r#"{"id":"7","text":"x"}"#]);
        assert_eq!(
            read(InputFormat::Csv, "n\ttext\n1\t\"x\n").unwrap(),
            [r#"{"n":"1","text":"\"x"}"#]
        );
    }

    #[test]
    fn questions_come_from_squad() {
        let file = r#"{"data": [{"paragraphs": [{"context": "c", "qas": [
            {"id": 1, "question": "q"}, {"id": "2", "question": "r", "answers": []}]}]}]}"#;
        let records = read(InputFormat::Json, file).unwrap();
        assert_eq!(records[0], r#"{"id":1,"question":"q","context":"c"}"#);
        assert_eq!(records.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (format, text, part) in [
            (InputFormat::Jsonl, "{}\n7\n", "line 2 of"),
            (InputFormat::Jsonl, "{}\n{\n", "it is not JSON"),
            (InputFormat::Json, "{}", "neither a list"),
            (InputFormat::Csv, "text,n\na,1\n\"b,2\nc,3\n", "line 3"),
            (InputFormat::Csv, "text\na \"b\n\"c\"\"\nd", "line 3"),
            (InputFormat::Csv, "text,n\na,1\nb\n", "cannot be read"),
        ] {
            let error = format!("{:#}", read(format, text).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
        let record = Record::of_text("sentence", "x");
        let error = record.text("text").unwrap_err().to_string();
        assert_eq!(error, "it has no field `text`, but sentence");
    }
}
