//! Columns of JSON Lines: an object in each line.

use std::borrow::Cow;
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::DatasetError;
use crate::report::{ReadReport, grouped, shown};
use crate::storage::read_text;
use crate::tokens::documents::{Document, EMPTY, Take, WANTED};

/// Maximum bytes of a line.
const MAX_LINE: usize = 256 << 20;
/// Maximum number of names of other columns in a message.
const MAX_NAMES: usize = 12;

/// Passes the entries of a column to `take`. The file may be packed, and in UTF-16.
pub(super) fn read(
    path: &Path,
    column: &str,
    report: &mut ReadReport,
    take: &mut Take<'_>,
) -> Result<ControlFlow<()>, DatasetError> {
    let malformed = |found: String| DatasetError::malformed(path, "JSON Lines", found);
    let text = read_text(path, report)?;
    let (mut n_found, mut others) = (0_u64, Vec::new());
    for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if line.len() > MAX_LINE {
            let [found, limit] = [line.len(), MAX_LINE].map(|n| grouped(n as u64));
            return Err(malformed(format!(
                "line {number} has {found} bytes, and at most {limit} are allowed"
            )));
        }
        let mut reader = serde_json::Deserializer::from_slice(line);
        let entry = Record { column }.deserialize(&mut reader);
        let entry = entry.and_then(|entry| reader.end().map(|()| entry));
        let (entry, names) = entry.map_err(|error| {
            // To the parser, each line is the first one.
            let error = error
                .to_string()
                .replace(" at line 1 column ", " at column ");
            malformed(format!("line {number}: {error}"))
        })?;
        let next = match &entry {
            Entry::Text(text) => take(Document::Text(text)),
            Entry::Ids(ids) => take(Document::Ids(ids)),
            Entry::None => {
                report.skip(EMPTY, format!("line {number}"));
                others = names;
                continue;
            }
            Entry::Other => {
                return Err(DatasetError::NoColumn {
                    path: path.to_owned(),
                    column: column.to_owned(),
                    wanted: WANTED,
                    found: format!(" (in line {number} it is something else)"),
                });
            }
        };
        n_found += 1;
        if next?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    match n_found {
        0 => Err(DatasetError::NoColumn {
            path: path.to_owned(),
            column: column.to_owned(),
            wanted: WANTED,
            found: format!(" (it has {})", quoted(&others)),
        }),
        _ => Ok(ControlFlow::Continue(())),
    }
}

/// The names of columns, as the end of a message.
pub(super) fn quoted(names: &[String]) -> String {
    let quoted = names.iter().take(MAX_NAMES);
    let quoted: Vec<String> = quoted.map(|name| format!("`{}`", shown(name))).collect();
    match quoted.is_empty() {
        true => "none".to_owned(),
        false => quoted.join(", "),
    }
}

/// What a record has in the column.
#[derive(Debug, PartialEq)]
enum Entry<'a> {
    Text(Cow<'a, str>),
    Ids(Vec<i64>),
    None,
    Other,
}

/// Reads a record: its entry and, if it has none, the names of its other columns.
struct Record<'c> {
    column: &'c str,
}

impl<'de> DeserializeSeed<'de> for Record<'_> {
    type Value = (Entry<'de>, Vec<String>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Record<'_> {
    type Value = (Entry<'de>, Vec<String>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let (mut entry, mut names) = (Entry::None, Vec::new());
        while let Some(name) = map.next_key::<String>()? {
            if name == self.column {
                entry = map.next_value_seed(EntrySeed)?;
                continue;
            }
            map.next_value::<IgnoredAny>()?;
            if names.len() < MAX_NAMES {
                names.push(name);
            }
        }
        Ok((entry, names))
    }
}

struct EntrySeed;

impl<'de> DeserializeSeed<'de> for EntrySeed {
    type Value = Entry<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Entry<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for EntrySeed {
    type Value = Entry<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of ids")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Entry<'de>, E> {
        Ok(Entry::Text(text.into()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Entry<'de>, E> {
        Ok(Entry::Text(text.to_owned().into()))
    }

    fn visit_unit<E: Error>(self) -> Result<Entry<'de>, E> {
        Ok(Entry::None)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Entry<'de>, S::Error> {
        let mut ids = Vec::new();
        while let Some(id) = seq.next_element()? {
            ids.push(id);
        }
        Ok(Entry::Ids(ids))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Entry<'de>, M::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Entry::Other)
    }

    fn visit_u64<E: Error>(self, _number: u64) -> Result<Entry<'de>, E> {
        Ok(Entry::Other)
    }

    fn visit_i64<E: Error>(self, _number: i64) -> Result<Entry<'de>, E> {
        Ok(Entry::Other)
    }

    fn visit_f64<E: Error>(self, _number: f64) -> Result<Entry<'de>, E> {
        Ok(Entry::Other)
    }

    fn visit_bool<E: Error>(self, _is_true: bool) -> Result<Entry<'de>, E> {
        Ok(Entry::Other)
    }
}
