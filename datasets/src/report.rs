//! Reports of what was read from a data set.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

/// Maximum characters of a name in messages.
const MAX_NAME: usize = 64;
/// Maximum characters of a description of a file's problem in messages.
const MAX_TEXT: usize = 400;
/// Maximum number of classes that are listed with their numbers of records.
const MAX_CLASSES: usize = 12;

/// What was read from a data set, and what was left out. It prints as one line for the terminal.
///
/// # Example
///
/// ```
/// use reformer_datasets::ByteCorpus;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # std::env::set_current_dir(folder.path())?;
/// std::fs::write("notes.txt", "\u{feff}A note.")?;
/// let report = ByteCorpus::open("notes.txt")?.report();
/// assert_eq!(report.to_string(), "notes.txt: 1 file, 7 tokens");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadReport {
    /// Paths as they were given, or the name of data without a file.
    pub name: String,
    /// Files that were read; 0 for data without a file.
    pub files: usize,
    /// Numbers of items, with their unit in the plural: records, images, pairs, questions, tokens.
    pub counts: Vec<(u64, &'static str)>,
    /// Names of classes, ordered by number, with the number of records of each.
    pub classes: Vec<(String, u64)>,
    /// What was left out.
    pub skipped: Vec<Skipped>,
    /// How files in an unusual format were interpreted.
    pub notes: Vec<String>,
}

/// Items that were left out for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The items, in the plural, and why they were left out.
    pub reason: String,
    /// Number of items.
    pub count: u64,
    /// The first of them.
    pub example: String,
}

impl ReadReport {
    /// A report of data with this name, of which nothing has been read so far.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// A report of data at this path.
    pub(crate) fn at(path: &Path) -> Self {
        Self::new(path.display().to_string())
    }

    /// The number of items of a unit, such as `records`.
    pub fn count(&self, unit: &str) -> Option<u64> {
        let mut counts = self.counts.iter();
        counts.find(|(_, of)| *of == unit).map(|(count, _)| *count)
    }

    /// The same with a count of a unit, in the plural.
    #[must_use]
    pub fn with_count(mut self, count: usize, unit: &'static str) -> Self {
        self.counts.retain(|(_, of)| *of != unit);
        self.counts.push((count as u64, unit));
        self
    }

    /// The same with the number of records, and of those of each class.
    #[must_use]
    pub(crate) fn with_classes(
        mut self,
        classes: &[String],
        of_records: impl ExactSizeIterator<Item = usize>,
    ) -> Self {
        self = self.with_count(of_records.len(), "records");
        self.classes = classes.iter().map(|class| (class.clone(), 0)).collect();
        for class in of_records {
            self.classes[class].1 += 1;
        }
        self
    }

    /// Counts an item that was left out.
    pub(crate) fn skip(&mut self, reason: &str, example: impl fmt::Display) {
        match self.skipped.iter_mut().find(|known| known.reason == reason) {
            Some(known) => known.count += 1,
            None => self.skipped.push(Skipped {
                reason: reason.to_owned(),
                count: 1,
                example: example.to_string(),
            }),
        }
    }

    /// What was left out and why, as the end of a line; empty if nothing was.
    pub(crate) fn left_out(&self) -> String {
        let skipped = self.skipped.iter().map(|skipped| {
            let reason = shown_text(&skipped.reason);
            let example = shown_text(&skipped.example);
            format!("{} {reason} (first: {example})", grouped(skipped.count))
        });
        let skipped: Vec<String> = skipped.collect();
        match skipped.is_empty() {
            true => String::new(),
            false => format!("; skipped: {}", skipped.join(", ")),
        }
    }

    /// Adds a note on how a file differs from the usual format, once.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

impl fmt::Display for ReadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts = Vec::new();
        if self.files > 0 {
            counts.push(counted(self.files as u64, "files"));
        }
        counts.extend(
            self.counts
                .iter()
                .map(|&(count, unit)| counted(count, unit)),
        );
        write!(f, "{}: {}", escaped(&self.name), counts.join(", "))?;
        if !self.classes.is_empty() {
            let listed = self.classes.iter().take(MAX_CLASSES);
            let listed: Vec<String> = listed
                .map(|(name, count)| format!("{} {}", shown(name), grouped(*count)))
                .collect();
            write!(f, "; classes: {}", listed.join(", "))?;
            if self.classes.len() > MAX_CLASSES {
                let more = (self.classes.len() - MAX_CLASSES) as u64;
                write!(f, " and {} more", grouped(more))?;
            }
        }
        f.write_str(&self.left_out())?;
        self.notes
            .iter()
            .try_for_each(|note| write!(f, "; {}", shown_text(note)))
    }
}

/// A number and its unit, in the singular for 1.
fn counted(count: u64, unit: &str) -> String {
    let unit = if count == 1 {
        unit.strip_suffix('s').unwrap_or(unit)
    } else {
        unit
    };
    format!("{} {unit}", grouped(count))
}

/// A number with commas between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A name from a file as messages and tables show it: in one line, without terminal control
/// characters, and at most 64 characters long.
///
/// # Example
///
/// ```
/// use reformer_datasets::shown;
///
/// assert_eq!(shown("sport"), "sport");
/// assert_eq!(shown("\u{1b}[31mred"), "\\u{1b}[31mred");
/// assert_eq!(shown(&"x".repeat(70_000)).chars().count(), 64);
/// ```
pub fn shown(name: &str) -> String {
    shortened(name, MAX_NAME)
}

/// A sentence that may quote parts of a file, as messages show it.
pub(crate) fn shown_text(text: &str) -> String {
    shortened(text, MAX_TEXT)
}

/// A path as messages show it.
pub(crate) fn shown_path(path: &Path) -> String {
    escaped(&path.display().to_string()).into_owned()
}

fn shortened(text: &str, limit: usize) -> String {
    // Escaping makes a text longer, so no more than this part of it can be shown.
    let start: String = text.chars().take(limit + 1).collect();
    let escaped = escaped(&start);
    if escaped.chars().nth(limit).is_none() {
        return escaped.into_owned();
    }
    escaped.chars().take(limit - 1).chain(['…']).collect()
}

/// A text as a terminal may show it: control characters, which could move the cursor, change a
/// title or hide other text, and those that change the writing direction or are invisible are
/// spelled out as in Rust (`\u{1b}`). Line ends and tabs stay.
///
/// ```
/// use reformer_datasets::printable;
///
/// assert_eq!(printable("one\ttwo\n"), "one\ttwo\n");
/// assert_eq!(printable("\x1b[2Jgone"), "\\u{1b}[2Jgone");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped_where(text, |c| is_hidden(c) && !matches!(c, '\n' | '\t'))
}

/// A text in one line, without characters that control a terminal.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    escaped_where(text, is_hidden)
}

/// Whether a character controls a terminal, ends a line, changes the direction or is invisible.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

fn escaped_where(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match is_escaped(c) {
            true => escaped.extend(c.escape_default()),
            false => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_is_one_line() {
        let mut report = ReadReport::new("re\nviews").with_count(1, "records");
        report.files = 3;
        for name in ["a.txt", "b.txt"] {
            report.skip("files that are not images", name);
        }
        report.skip("broken links", "c\u{1b}[2J");
        report.note("decoded from UTF-16LE");
        report.note("decoded from UTF-16LE");
        report.classes = vec![("neg".to_owned(), 1), ("x".repeat(100), 12_345)];
        let expected = format!(
            "re\\nviews: 3 files, 1 record; classes: neg 1, {}… 12,345; skipped: 2 files that are not images (first: \
             a.txt), 1 broken links (first: c\\u{{1b}}[2J); decoded from UTF-16LE",
            "x".repeat(63)
        );
        assert_eq!(report.to_string(), expected);
        assert_eq!(report.count("records"), Some(1));
        assert_eq!(report.count("images"), None);
    }

    #[test]
    fn many_classes_are_counted() {
        let mut report = ReadReport::new("many");
        report.classes = (0..1_012).map(|i| (i.to_string(), 1)).collect();
        assert!(
            report.to_string().ends_with("11 1 and 1,000 more"),
            "{report}"
        );
    }

    #[test]
    fn only_text_is_printable() {
        let hostile = "a\x07\x1b]0;title\x07\r\x7f\u{9b}2J\u{202e}b\u{2028}\u{feff}\u{200f}\n";
        let shown = printable(hostile);
        assert!(shown.chars().all(|c| !c.is_control() || c == '\n'));
        assert_eq!(
            shown,
            "a\\u{7}\\u{1b}]0;title\\u{7}\\r\\u{7f}\\u{9b}2J\\u{202e}b\\u{2028}\\u{feff}\\u{200f}\n"
        );
        assert!(matches!(printable("Ünïcode 🎭\t\n"), Cow::Borrowed(_)));
        assert_eq!(escaped("one\ttwo\n"), "one\\ttwo\\n");
    }

    #[test]
    fn numbers_are_grouped() {
        let grouped = [0, 999, 1_000, 12_345_678].map(grouped);
        assert_eq!(grouped, ["0", "999", "1,000", "12,345,678"]);
    }
}
