//! Texts and their classes, in published formats.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::error::DatasetError;
use crate::holdout::{hold_out, key};
use crate::labelled::classified::{BYTES, ClassifiedBuilder, ClassifiedRows};
use crate::labelled::rows::bytes;
use crate::labelled::{sample_passages, table};
use crate::report::ReadReport;
use crate::storage::{as_str, read_text, walk};

/// The folder of unlabelled texts of the IMDB reviews.
const UNLABELLED: &str = "unsup";
/// More classes than this need two texts each on average.
const MAX_SMALL_CLASSES: usize = 100;

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
#[derive(Clone, Debug)]
pub struct LabelledTexts {
    /// Their name, and what was read.
    report: Arc<ReadReport>,
    classes: Vec<String>,
    /// The concatenated texts.
    text: Arc<str>,
    /// The range of each text, and the number of its class.
    texts: Vec<(Range<usize>, usize)>,
}

impl PartialEq for LabelledTexts {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name() && self.classes == other.classes && self.iter().eq(other.iter())
    }
}

/// Collects texts.
#[derive(Default)]
pub(super) struct Builder {
    text: String,
    texts: Vec<(Range<usize>, usize)>,
    /// Numbers in the order of appearance.
    classes: HashMap<String, usize>,
}

impl Builder {
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(super) fn push(&mut self, text: &str, class: &str) {
        let number = match self.classes.get(class) {
            Some(&number) => number,
            None => {
                let next = self.classes.len();
                self.classes.insert(class.to_owned(), next);
                next
            }
        };
        let start = self.text.len();
        self.text.push_str(text);
        self.texts.push((start..self.text.len(), number));
    }

    /// The collected texts, if their classes can be learned.
    pub(super) fn build(self, report: ReadReport) -> Result<LabelledTexts, DatasetError> {
        let texts = self.build_any(report);
        let (n_classes, n_texts) = (texts.classes.len(), texts.len());
        if n_classes > MAX_SMALL_CLASSES && n_texts < 2 * n_classes {
            return Err(DatasetError::TooManyClasses {
                name: texts.name().to_owned(),
                n_classes,
                n_texts,
                examples: [texts.classes[0].clone(), texts.classes[1].clone()],
            });
        }
        Ok(texts)
    }

    /// The collected texts, with classes numbered in alphabetical order.
    fn build_any(self, report: ReadReport) -> LabelledTexts {
        let mut classes: Vec<(String, usize)> = self.classes.into_iter().collect();
        classes.sort_unstable();
        let mut numbers = vec![0; classes.len()];
        for (number, (_, appeared)) in classes.iter().enumerate() {
            numbers[*appeared] = number;
        }
        let mut texts = self.texts;
        for (_, class) in &mut texts {
            *class = numbers[*class];
        }
        LabelledTexts {
            report: Arc::new(report),
            classes: classes.into_iter().map(|(name, _)| name).collect(),
            text: self.text.into(),
            texts,
        }
    }
}

impl LabelledTexts {
    /// The sample, 2,509 passages of up to 250 bytes made of the other samples: English and German
    /// sentences of [`ParallelText::sample`](crate::translation::ParallelText::sample), and lines
    /// of [`ByteCorpus::sample`](crate::ByteCorpus::sample) without the speakers' names. Which of
    /// the three sources a passage is from is easy to tell: it is a task to try out a program.
    pub fn sample() -> Self {
        Self::new("passages", sample_passages::passages())
    }

    /// Texts with the names of their classes, which are numbered in alphabetical order.
    pub fn new(name: impl Into<String>, texts: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut builder = Builder::default();
        for (text, class) in texts {
            builder.push(&text, &class);
        }
        builder.build_any(ReadReport::new(name))
    }

    /// A table of text with columns `text` and `label`, named in its first line, in any order and
    /// among others. Tabs, commas, semicolons or bars separate fields, as detected from that line
    /// or a line `sep=;` before it. In tables with tabs, quotes have no special meaning; otherwise
    /// fields may be in double quotes. The file may be packed as gzip, xz or zip, and be UTF-8 or
    /// UTF-16.
    ///
    /// # Errors
    /// [`Malformed`](DatasetError::Malformed) for what is not text, a table without these columns,
    /// a quote that is not closed, or a record with too few or too many fields or without a label;
    /// [`TooManyClasses`](DatasetError::TooManyClasses) for labels that are nearly all different;
    /// or those of [`ByteCorpus::open_unpacked`](crate::ByteCorpus::open_unpacked).
    pub fn open_table(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let path = path.as_ref();
        let (mut builder, mut report) = (Builder::default(), ReadReport::at(path));
        let bytes = read_text(path, &mut report)?;
        table::read(as_str(&bytes), &mut builder, &mut report).map_err(|found| {
            DatasetError::malformed(path, "a table with the columns text and label", found)
        })?;
        builder.build(report)
    }

    /// A folder with a folder for each class, whose files, including those of subfolders, are the
    /// texts: `pos/*.txt` and `neg/*.txt` of the IMDB reviews. Its folder `unsup`, whose texts have
    /// no class, and files next to the folders are left out.
    ///
    /// # Errors
    /// [`NothingIn`](DatasetError::NothingIn) when no folder in it has a file,
    /// [`Malformed`](DatasetError::Malformed) for files that are not text,
    /// [`TooManyClasses`](DatasetError::TooManyClasses) when nearly every text has a folder of its
    /// own, [`NotFound`](DatasetError::NotFound), [`Unreadable`](DatasetError::Unreadable) or those
    /// of a folder.
    pub fn open_folder(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let folder = path.as_ref();
        let (mut builder, mut report) = (Builder::default(), ReadReport::at(folder));
        for file in walk(folder, &mut report)? {
            let inside = file.strip_prefix(folder).unwrap_or(&file);
            let Some(class) = inside.parent().and_then(|parent| parent.iter().next()) else {
                report.skip("files outside the class folders", file.display());
                continue;
            };
            if class == UNLABELLED {
                report.skip("texts without a class", file.display());
                continue;
            }
            let text = read_text(&file, &mut report)?;
            builder.push(as_str(&text), &class.to_string_lossy());
        }
        if builder.len() == 0 {
            return Err(DatasetError::NothingIn {
                path: folder.to_owned(),
                wanted: "folder with texts, one for each class,",
            });
        }
        builder.build(report)
    }

    /// The same texts with their classes numbered as in this list.
    ///
    /// # Errors
    /// [`OtherClass`](DatasetError::OtherClass) for a class that is not in it.
    pub fn with_classes(mut self, classes: &[String]) -> Result<Self, DatasetError> {
        let known: HashMap<&str, usize> = classes.iter().map(String::as_str).zip(0..).collect();
        let mut numbers = Vec::new();
        for class in &self.classes {
            let number = known.get(class.as_str()).copied();
            numbers.push(number.ok_or_else(|| DatasetError::OtherClass {
                name: self.name().to_owned(),
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

    /// Splits the texts for training and validation: of `every` different texts of a class about
    /// one is held out for validation, at least one of each class with two, chosen by a hash of the
    /// text. No text is in both.
    ///
    /// # Errors
    /// [`TooFew`](DatasetError::TooFew) when there are less than two different texts.
    pub fn split(&self, every: usize) -> Result<[Self; 2], DatasetError> {
        let keys = self
            .iter()
            .map(|(text, class)| (key(text.as_bytes()), class));
        let parts = hold_out(keys, every).map_err(|n| DatasetError::TooFew {
            name: self.name().to_owned(),
            n,
            unit: "texts",
            left_out: self.report.left_out(),
        })?;
        Ok(parts.map(|numbers| Self {
            report: self.report.clone(),
            classes: self.classes.clone(),
            text: self.text.clone(),
            texts: numbers
                .iter()
                .map(|&number| self.texts[number].clone())
                .collect(),
        }))
    }

    /// The path it was read from, or the name it was given.
    pub fn name(&self) -> &str {
        &self.report.name
    }

    /// What was read, with the numbers of texts in this set.
    pub fn report(&self) -> ReadReport {
        let numbers = self.texts.iter().map(|(_, class)| *class);
        ReadReport::clone(&self.report).with_classes(&self.classes, numbers)
    }

    /// Names of the classes, ordered by number.
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
        let (range, class) = self.texts.get(index)?;
        Some((&self.text[range.clone()], *class))
    }

    /// The texts in order, each with the number of its class.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, usize)> {
        let texts = self.texts.iter();
        texts.map(|(range, class)| (&self.text[range.clone()], *class))
    }

    /// Rows for a classifier: [`BEGIN`](super::BEGIN), and the text, up to `max_length` in all.
    pub fn encode(&self, max_length: usize) -> ClassifiedRows {
        let mut builder = ClassifiedBuilder::new(BYTES, max_length);
        for (text, class) in self.iter() {
            builder.push(bytes(text), class);
        }
        builder.build(self.classes.clone(), ReadReport::clone(&self.report))
    }
}
