//! Texts and their classes, as they are published.

use std::path::Path;

use csv::{ReaderBuilder, StringRecord};

use crate::error::DatasetError;
use crate::labelled::rows::{BEGIN, LabelledRows, bytes};
use crate::labelled::{passages, split_by_key};
use crate::storage::{utf8, walk};

/// Columns of a table.
const COLUMNS: [&str; 2] = ["text", "label"];
/// A folder of the IMDB reviews whose texts have no class.
const UNLABELLED: &str = "unsup";

/// Texts, each of one class.
///
/// # Example
///
/// ```
/// use reformer_datasets::labelled::LabelledTexts;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("reviews.csv");
/// std::fs::write(&path, "label,text\ngood,\"Clear, short.\"\nbad,Too long\n")?;
/// let texts = LabelledTexts::open_table(&path)?;
/// assert_eq!(texts.classes(), ["bad", "good"]);
/// assert_eq!(texts.get(0), Some(("Clear, short.", 1)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledTexts {
    name: String,
    classes: Vec<String>,
    /// Each with the number of its class.
    texts: Vec<(String, usize)>,
}

impl LabelledTexts {
    /// The sample, 2,507 passages of up to 250 bytes made of the other samples: English and German sentences of
    /// [`ParallelText::sample`](crate::translation::ParallelText::sample), and lines of
    /// [`ByteCorpus::sample`](crate::ByteCorpus::sample) without the names of who speaks. Which of the three a
    /// passage is from is easy to tell: it is a task for a program to be tried with.
    pub fn sample() -> Self {
        Self::new("passages", passages::passages())
    }

    /// Texts with the names of their classes, which are numbered in the order of the alphabet.
    pub fn new(name: impl Into<String>, texts: impl IntoIterator<Item = (String, String)>) -> Self {
        let texts: Vec<(String, String)> = texts.into_iter().collect();
        let mut classes: Vec<String> = texts.iter().map(|(_, class)| class.clone()).collect();
        classes.sort();
        classes.dedup();
        let number = |class: &String| classes.partition_point(|other| other < class);
        let texts = texts
            .into_iter()
            .map(|(text, class)| (text, number(&class)))
            .collect();
        Self {
            name: name.into(),
            classes,
            texts,
        }
    }

    /// A table in UTF-8 with columns `text` and `label`, named in its first line, in any order and among others. Where
    /// that line has a tab, fields end at tabs and quotes mean nothing; else they end at commas, and a field
    /// may stand in double quotes. It may be packed as gzip, xz or zip.
    ///
    /// # Errors
    ///
    /// [`Malformed`](DatasetError::Malformed) for text that is not UTF-8, a table without these columns, or a record with
    /// too few or too many fields or without a label; or those of
    /// [`ByteCorpus::open_unpacked`](crate::ByteCorpus::open_unpacked).
    pub fn open_table(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let path = path.as_ref();
        let bytes = utf8(path)?;
        let texts = read_table(&bytes).map_err(|found| {
            DatasetError::malformed(path, "a table with the columns text and label", found)
        })?;
        Ok(Self::new(path.display().to_string(), texts))
    }

    /// A folder with a folder for each class, whose files, also of folders in them, are the texts: `pos/*.txt`
    /// and `neg/*.txt` of the IMDB reviews. Its folder `unsup`, whose texts have no class, and files beside the
    /// folders are left out.
    ///
    /// # Errors
    ///
    /// [`NothingIn`](DatasetError::NothingIn) when no folder in it has a file,
    /// [`Malformed`](DatasetError::Malformed) for text that is not UTF-8,
    /// [`NotFound`](DatasetError::NotFound) or [`Unreadable`](DatasetError::Unreadable).
    pub fn open_folder(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let folder = path.as_ref();
        let mut texts = Vec::new();
        for file in walk(folder)? {
            let inside = file.strip_prefix(folder).unwrap_or(&file);
            let Some(class) = inside.parent().and_then(|parent| parent.iter().next()) else {
                continue;
            };
            if class == UNLABELLED {
                continue;
            }
            texts.push((
                text_of(&utf8(&file)?).to_owned(),
                class.to_string_lossy().into_owned(),
            ));
        }
        if texts.is_empty() {
            return Err(DatasetError::NothingIn {
                path: folder.to_owned(),
                wanted: "folder with texts, one for each class,",
            });
        }
        Ok(Self::new(folder.display().to_string(), texts))
    }

    /// The same texts with their classes numbered as in this list.
    ///
    /// # Errors
    ///
    /// [`OtherClass`](DatasetError::OtherClass) for a class that is not in it.
    pub fn with_classes(mut self, classes: &[String]) -> Result<Self, DatasetError> {
        let mut numbers = Vec::new();
        for class in &self.classes {
            let number = classes.iter().position(|other| other == class);
            numbers.push(number.ok_or_else(|| DatasetError::OtherClass {
                name: self.name.clone(),
                class: class.clone(),
                classes: classes.join(", "),
            })?);
        }
        for (_, class) in &mut self.texts {
            *class = numbers[*class];
        }
        self.classes = classes.to_vec();
        Ok(self)
    }

    /// The texts in two parts, to train and to validate: of the different texts, in order, every `every`th goes into
    /// the second part, and at least the last one, so that no text is in both.
    pub fn split(&self, every: usize) -> [Self; 2] {
        let keys = self.texts.iter().map(|(text, _)| text.as_str());
        split_by_key(keys, every).map(|numbers| Self {
            texts: numbers
                .iter()
                .map(|&number| self.texts[number].clone())
                .collect(),
            ..self.clone()
        })
    }

    /// The path it was read from, or the name it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names of the classes, by their numbers.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there are no texts.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// A text and the number of its class; `None` when there is no text of this number.
    pub fn get(&self, index: usize) -> Option<(&str, usize)> {
        let (text, class) = self.texts.get(index)?;
        Some((text, *class))
    }

    /// Rows for a classifier: [`BEGIN`], and the text up to `max_length` tokens in all.
    pub fn encode(&self, max_length: usize) -> LabelledRows {
        let rows = self.texts.iter().map(|(text, class)| {
            let tokens = std::iter::once(BEGIN).chain(bytes(text));
            (tokens.take(max_length.max(1)).collect(), [*class as i32])
        });
        LabelledRows::new(usize::from(BEGIN) + 1, rows)
    }
}

/// What was checked to be UTF-8, without a byte order mark.
fn text_of(bytes: &[u8]) -> &str {
    let text = str::from_utf8(bytes).expect("it was checked");
    text.trim_start_matches('\u{feff}')
}

/// Texts and classes of a table, or what is wrong with it.
fn read_table(bytes: &[u8]) -> Result<Vec<(String, String)>, String> {
    let text = text_of(bytes);
    let has_tabs = text.lines().next().unwrap_or_default().contains('\t');
    let mut reader = ReaderBuilder::new()
        .delimiter(if has_tabs { b'\t' } else { b',' })
        .quoting(!has_tabs)
        .from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| error.to_string())?.clone();
    let place = |column: &str| {
        let is_it = |name: &str| name.trim().eq_ignore_ascii_case(column);
        header.iter().position(is_it).ok_or_else(|| {
            let names: Vec<&str> = header.iter().collect();
            format!(
                "its first line names no column `{column}`, but {}",
                names.join(", ")
            )
        })
    };
    let [text_column, label_column] = [place(COLUMNS[0])?, place(COLUMNS[1])?];
    let mut texts = Vec::new();
    for record in reader.records() {
        let record: StringRecord = record.map_err(|error| error.to_string())?;
        let label = record[label_column].trim();
        if label.is_empty() {
            let line = record.position().map_or(0, csv::Position::line);
            return Err(format!("the record in line {line} has no label"));
        }
        texts.push((record[text_column].to_owned(), label.to_owned()));
    }
    if texts.is_empty() {
        return Err("it has no record after its first line".to_owned());
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tabs_and_commas_are_told_apart() {
        let tabs = "label\tother\ttext\nx\t1\ta \"quote, here\ny\t\tz\n";
        let expected = [("a \"quote, here", "x"), ("z", "y")].map(|(a, b)| (a.into(), b.into()));
        assert_eq!(read_table(tabs.as_bytes()).unwrap(), expected);
        let commas = "\u{feff}Text,LABEL\r\n\"two\nlines, \"\"quoted\"\"\",x\r\n";
        let expected = [("two\nlines, \"quoted\"".to_owned(), "x".to_owned())];
        assert_eq!(read_table(commas.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_with_a_table_is_named() {
        for (table, found) in [
            ("a,b\nx,y\n", "no column `text`, but a, b"),
            ("text,b\nx,y\n", "no column `label`, but text, b"),
            ("text,label\nx,y\nz, \n", "line 3 has no label"),
            ("text,label\nx,y\nz\n", "line: 3"),
            ("text,label\n", "no record"),
            ("", "no column `text`"),
        ] {
            let error = read_table(table.as_bytes()).unwrap_err();
            assert!(error.contains(found), "{error}");
        }
    }
}
