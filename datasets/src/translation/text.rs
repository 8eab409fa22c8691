//! Sentences and their translations, in published formats.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::error::DatasetError;
use crate::report::ReadReport;
use crate::storage::{Bytes, read_text};

/// The sample that ships with the crate; see `samples/README.md`.
const SAMPLE: &[u8] = include_bytes!("../../samples/tatoeba-eng-deu.tsv");

/// Pairs of a sentence and its translation. Clones share the text.
///
/// # Example
///
/// ```
/// use reformer_datasets::translation::ParallelText;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = |name: &str| folder.path().join(name);
/// std::fs::write(path("news.en"), "Good day.\nHello!\n")?;
/// std::fs::write(path("news.de"), "Guten Tag.\nHallo!\n")?;
/// let text = ParallelText::open_files(path("news.en"), path("news.de"))?;
/// assert_eq!(text.len(), 2);
/// assert_eq!(text.get(1), Some(("Hello!", "Hallo!")));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ParallelText {
    /// Their name, and what was read.
    report: Arc<ReadReport>,
    /// The texts of all sources and of all targets.
    sides: [Bytes; 2],
    pairs: Vec<[Range<usize>; 2]>,
}

impl fmt::Debug for ParallelText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParallelText")
            .field("name", &self.name())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl ParallelText {
    /// The sample that ships with the crate: 7,941 English and German sentences of Tatoeba.
    pub fn sample() -> Self {
        Self::table(ReadReport::new("tatoeba-eng-deu"), SAMPLE.into())
            .expect("the sample is a table")
    }

    /// Two text files, whose lines of the same number are translations of each other, as in WMT.
    /// They may be packed as gzip, xz or zip, and be UTF-8 or UTF-16.
    ///
    /// Only line feeds end a line: other line separators of Unicode occur in sentences. A carriage
    /// return before one is left out. In a file without line feeds, carriage returns end lines.
    ///
    /// # Errors
    /// [`OtherLines`](DatasetError::OtherLines) when the files have different numbers of lines,
    /// [`Malformed`](DatasetError::Malformed) for text that is not UTF-8, or those of
    /// [`ByteCorpus::open_unpacked`](crate::ByteCorpus::open_unpacked).
    pub fn open_files(
        source: impl AsRef<Path>,
        target: impl AsRef<Path>,
    ) -> Result<Self, DatasetError> {
        let paths = [source.as_ref(), target.as_ref()];
        let name = format!("{} and {}", paths[0].display(), paths[1].display());
        let mut report = ReadReport::new(name);
        let mut read = |path| read_text(path, &mut report);
        let [source, target] = [read(paths[0])?, read(paths[1])?];
        let n_lines = [&source, &target].map(|side| lines(side).count());
        if n_lines[0] != n_lines[1] {
            let [source, target] = paths.map(Path::to_owned);
            return Err(DatasetError::OtherLines {
                source_path: source,
                target_path: target,
                lines: n_lines,
            });
        }
        let pairs = lines(&source).zip(lines(&target)).map(Into::into).collect();
        Ok(Self {
            report: Arc::new(report),
            sides: [source, target],
            pairs,
        })
    }

    /// One text file with a pair in each line, a tab between source and target; text after a second
    /// tab is left out.
    ///
    /// # Errors
    /// [`Malformed`](DatasetError::Malformed) for text that is not UTF-8 or a line without a tab,
    /// or those of [`ByteCorpus::open_unpacked`](crate::ByteCorpus::open_unpacked).
    pub fn open_tsv(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let path = path.as_ref();
        let mut report = ReadReport::at(path);
        let bytes = read_text(path, &mut report)?;
        let text = Self::table(report, bytes);
        text.map_err(|found| DatasetError::malformed(path, "a table of pairs", found))
    }

    /// A table's pairs, or a description of the problem.
    fn table(report: ReadReport, bytes: Bytes) -> Result<Self, String> {
        let mut pairs = Vec::new();
        for (index, line) in lines(&bytes).enumerate() {
            let mut fields = bytes[line.clone()].split(|&byte| byte == b'\t');
            let (Some(source), Some(target)) = (fields.next(), fields.next()) else {
                return Err(format!("line {} has no tab", index + 1));
            };
            let source_end = line.start + source.len();
            let target_start = source_end + 1;
            pairs.push([
                line.start..source_end,
                target_start..target_start + target.len(),
            ]);
        }
        Ok(Self {
            report: Arc::new(report),
            sides: [bytes.clone(), bytes],
            pairs,
        })
    }

    /// Pairs in memory, with a name for messages.
    pub fn from_pairs<'a>(
        name: impl Into<String>,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut sides = [Vec::new(), Vec::new()];
        let mut append = |side: usize, text: &str| {
            let start = sides[side].len();
            sides[side].extend_from_slice(text.as_bytes());
            start..sides[side].len()
        };
        let pairs = pairs
            .into_iter()
            .map(|(source, target)| [append(0, source), append(1, target)])
            .collect();
        Self {
            report: Arc::new(ReadReport::new(name)),
            sides: sides.map(Bytes::from),
            pairs,
        }
    }

    /// The other direction: swaps sources and targets.
    pub fn reversed(mut self) -> Self {
        self.sides.reverse();
        for pair in &mut self.pairs {
            pair.reverse();
        }
        self
    }

    /// Splits the text into training and validation: of the different sources, in order, every
    /// `every`th is held out for validation with all its translations, and where there are fewer
    /// sources, the last one. So no source is in both.
    ///
    /// # Errors
    /// [`TooFew`](DatasetError::TooFew) when there are less than two different sources.
    ///
    /// # Panics
    /// When `every` is 0.
    pub fn split_by_source(&self, every: usize) -> Result<[Self; 2], DatasetError> {
        assert!(every > 0, "there is no zeroth source");
        let mut numbers = HashMap::new();
        for [source, _] in &self.pairs {
            let next = numbers.len();
            numbers.entry(self.part(0, source)).or_insert(next);
        }
        if numbers.len() < 2 {
            return Err(DatasetError::TooFew {
                name: self.name().to_owned(),
                n: numbers.len(),
                unit: "sources",
                left_out: String::new(),
            });
        }
        let every = every.min(numbers.len());
        let (valid, train) = self
            .pairs
            .iter()
            .cloned()
            .partition(|[source, _]| numbers[self.part(0, source)] % every == every - 1);
        Ok([train, valid].map(|pairs| self.with_pairs(pairs)))
    }

    fn with_pairs(&self, pairs: Vec<[Range<usize>; 2]>) -> Self {
        Self {
            report: self.report.clone(),
            sides: self.sides.clone(),
            pairs,
        }
    }

    /// The paths it was read from, or the name it was given.
    pub fn name(&self) -> &str {
        &self.report.name
    }

    /// What was read, with the number of pairs in this set.
    pub fn report(&self) -> ReadReport {
        ReadReport::clone(&self.report).with_count(self.len(), "pairs")
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// A source and its target; `None` when there is no pair of this number.
    pub fn get(&self, index: usize) -> Option<(&str, &str)> {
        let [source, target] = self.pairs.get(index)?;
        Some((self.part(0, source), self.part(1, target)))
    }

    /// The pairs in order, each a source and its target.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.pairs
            .iter()
            .map(|[source, target]| (self.part(0, source), self.part(1, target)))
    }

    /// The sentences of both languages, to train a joint vocabulary.
    pub fn sentences(&self) -> impl Iterator<Item = &str> + Send {
        self.pairs
            .iter()
            .flat_map(|[source, target]| [self.part(0, source), self.part(1, target)])
    }

    fn part(&self, side: usize, range: &Range<usize>) -> &str {
        str::from_utf8(&self.sides[side][range.clone()]).expect("checked when it was opened")
    }
}

/// The ranges of the lines, without line ends.
fn lines(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut end = 0;
    text.split_inclusive(|&byte| byte == b'\n')
        .map(move |line| {
            let start = end;
            end += line.len();
            let content = line.strip_suffix(b"\n").unwrap_or(line);
            let content = content.strip_suffix(b"\r").unwrap_or(content);
            start..start + content.len()
        })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn files(contents: [&[u8]; 2]) -> Result<(tempfile::TempDir, [PathBuf; 2]), std::io::Error> {
        let folder = tempfile::tempdir()?;
        let paths = ["a.en", "a.de"].map(|name| folder.path().join(name));
        for (path, content) in paths.iter().zip(contents) {
            fs::write(path, content)?;
        }
        Ok((folder, paths))
    }

    #[test]
    fn lines_end_with_line_feeds_only() -> Outcome {
        let (_folder, [en, de]) = files([
            b"\xef\xbb\xbfone\r\n\ntwo\xe2\x80\xa8and a half",
            b"eins\n\nzweieinhalb\n",
        ])?;
        let text = ParallelText::open_files(&en, &de)?;
        let pairs: Vec<_> = text.iter().collect();
        assert_eq!(
            pairs,
            [
                ("one", "eins"),
                ("", ""),
                ("two\u{2028}and a half", "zweieinhalb")
            ]
        );
        let reversed = text.clone().reversed();
        assert_eq!(reversed.get(0), Some(("eins", "one")));
        assert_eq!(reversed.get(3), None);
        assert_eq!(text.sentences().count(), 6);
        Ok(())
    }

    #[test]
    fn files_of_different_lengths_are_refused() -> Outcome {
        let (_folder, [en, de]) = files([b"one\ntwo\n", b"eins\n"])?;
        let error = ParallelText::open_files(&en, &de).expect_err("a line is missing");
        assert_eq!(
            error.to_string(),
            format!(
                "`{}` has 2 lines, but `{}` has 1: a line must be the translation of the same line; check that \
                 the files belong together and are whole",
                en.display(),
                de.display()
            )
        );
        Ok(())
    }

    #[test]
    fn text_that_is_not_utf8_is_named_with_its_line() -> Outcome {
        let (_folder, [en, de]) = files([b"one\ntwo\n", b"eins\nzw\xe9i\n"])?;
        let error = ParallelText::open_files(&en, &de).expect_err("Latin 1");
        assert!(
            error
                .to_string()
                .contains("is not text in UTF-8 or UTF-16 (line 2"),
            "{error}"
        );
        Ok(())
    }

    #[test]
    fn tables_have_a_pair_in_each_line() -> Outcome {
        let (_folder, [good, bad]) =
            files([b"Hi.\tHallo!\nRun!\tLauf!\tCC-BY\n", b"Hi.\tHallo!\n\nHi."])?;
        let text = ParallelText::open_tsv(&good)?;
        let pairs: Vec<_> = text.iter().collect();
        assert_eq!(pairs, [("Hi.", "Hallo!"), ("Run!", "Lauf!")]);
        let error = ParallelText::open_tsv(&bad).expect_err("an empty line");
        assert!(error.to_string().contains("(line 2 has no tab)"), "{error}");
        Ok(())
    }

    #[test]
    fn parts_share_no_source() {
        let pairs = [
            ("a", "1"),
            ("b", "2"),
            ("a", "3"),
            ("c", "4"),
            ("d", "5"),
            ("b", "6"),
        ];
        let [train, valid] = ParallelText::from_pairs("letters", pairs)
            .split_by_source(2)
            .unwrap();
        let pairs = |text: &ParallelText| -> Vec<String> {
            text.iter().map(|(a, b)| format!("{a}{b}")).collect()
        };
        assert_eq!(pairs(&train), ["a1", "a3", "c4"]);
        assert_eq!(pairs(&valid), ["b2", "d5", "b6"]);
        assert_eq!(valid.report().to_string(), "letters: 3 pairs");
        let two = ParallelText::from_pairs("two", [("a", "1"), ("b", "2")]);
        let [train, valid] = two.split_by_source(20).unwrap();
        assert_eq!(
            (pairs(&train), pairs(&valid)),
            (vec!["a1".to_owned()], vec!["b2".to_owned()])
        );
        let one = ParallelText::from_pairs("one", [("a", "1"), ("a", "2")]);
        assert_eq!(
            one.split_by_source(20).unwrap_err().to_string(),
            "`one` has 1 different sources, and at least 2 are needed, one to train on and one to validate on: add \
             more, or name other data to validate on"
        );
    }

    #[test]
    fn sample_is_whole() {
        let sample = ParallelText::sample();
        assert_eq!(sample.len(), 7941);
        assert!(sample.iter().all(|(a, b)| !a.is_empty() && !b.is_empty()));
        let [train, valid] = sample.split_by_source(20).unwrap();
        assert_eq!((train.len(), valid.len()), (7544, 397));
    }

    #[test]
    fn empty_files_have_no_pairs() -> Outcome {
        let (_folder, [en, de]) = files([b"", b""])?;
        assert!(ParallelText::open_files(&en, &de)?.is_empty());
        assert!(ParallelText::open_tsv(&en)?.is_empty());
        Ok(())
    }
}
