//! Questions about texts, whose answers are spans of the text.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::error::DatasetError;
use crate::holdout::{hold_out, key};
use crate::labelled::rows::{BEGIN, LabelledRows, SEPARATOR, bytes};
use crate::labelled::{sample_questions, squad};
use crate::report::ReadReport;
use crate::storage::{as_str, read_text};

/// A question, its text, and the accepted answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Its ID in the file.
    pub id: String,
    /// The question.
    pub question: String,
    /// The text.
    pub context: Arc<str>,
    /// Byte ranges of the accepted answers in the text. Empty: the text has no answer.
    pub answers: Vec<Range<usize>>,
}

impl Question {
    /// Position of the text's first byte in a row.
    pub fn context_start(&self) -> usize {
        self.question.len() + 2
    }

    /// The accepted answers.
    pub fn answer_texts(&self) -> impl Iterator<Item = &str> {
        self.answers
            .iter()
            .map(|range| &self.context[range.clone()])
    }

    /// The byte range of the characters in the text between two positions of a row. Both are
    /// included, with all bytes of their characters.
    ///
    /// # Panics
    /// When they are not positions of the text, in order.
    pub fn range_at(&self, [first, last]: [usize; 2]) -> Range<usize> {
        let start = self.context_start();
        let (first, end) = (first - start, last - start + 1);
        assert!(
            first < end && end <= self.context.len(),
            "positions of the text, in order"
        );
        self.context.floor_char_boundary(first)..self.context.ceil_char_boundary(end)
    }

    /// The text at this [range](Self::range_at).
    ///
    /// # Panics
    /// When they are not positions of the text, in order.
    pub fn text_at(&self, positions: [usize; 2]) -> String {
        self.context[self.range_at(positions)].to_owned()
    }

    /// First and last position of the first answer in a row of at most `max_length` tokens: 0 and
    /// 0, the position of [`BEGIN`], if there is no answer; `None` if it does not fit.
    fn span(&self, max_length: usize) -> Option<[usize; 2]> {
        let Some(answer) = self.answers.first() else {
            return Some([0, 0]);
        };
        let start = self.context_start();
        let span = [start + answer.start, start + answer.end - 1];
        (span[1] < max_length).then_some(span)
    }

    /// [`BEGIN`], the question, [`SEPARATOR`], the text.
    fn tokens(&self, max_length: usize) -> Vec<u16> {
        let question = std::iter::once(BEGIN).chain(bytes(&self.question));
        let context = std::iter::once(SEPARATOR).chain(bytes(&self.context));
        question.chain(context).take(max_length.max(1)).collect()
    }
}

/// Questions about texts.
///
/// # Example
///
/// ```
/// use reformer_datasets::labelled::Questions;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("dev-v1.1.json");
/// std::fs::write(&path, r#"{"version": "1.1", "data": [{"title": "Rust", "paragraphs": [{
///     "context": "Über Rust: it is a language.",
///     "qas": [{"id": "1", "question": "What is Rust?",
///              "answers": [{"text": "a language", "answer_start": 17}]}]
/// }]}]}"#)?;
/// let questions = Questions::open_squad(&path)?;
/// let question = questions.get(0).expect("there is one");
/// // The offset in the file counts characters, the range counts bytes.
/// assert_eq!(question.answers, [18..28]);
/// assert_eq!(question.answer_texts().next(), Some("a language"));
/// let rows = questions.encode(512);
/// let [first, last] = [0, 1].map(|end| rows.targets(0)[end] as usize);
/// assert_eq!(question.text_at([first, last]), "a language");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Questions {
    /// Their name, and what was read.
    report: Arc<ReadReport>,
    questions: Vec<Question>,
}

impl Questions {
    /// The sample, for training and validation, made of the sentences of
    /// [`ParallelText::sample`](crate::translation::ParallelText::sample): the question is a German
    /// sentence, the text is a few English ones, and the answer is its translation. The two splits
    /// have no sentence in common. It is a task to try out a program, not a set of questions that
    /// people asked.
    pub fn sample() -> [Self; 2] {
        sample_questions::questions()
    }

    /// Questions under a name for messages.
    pub fn new(name: impl Into<String>, questions: Vec<Question>) -> Self {
        Self::of(Arc::new(ReadReport::new(name)), questions)
    }

    fn of(report: Arc<ReadReport>, questions: Vec<Question>) -> Self {
        Self { report, questions }
    }

    /// A file in the format of SQuAD 1.1 or 2.0, whose questions may have no answer, or rows of
    /// Hugging Face with the columns `id`, `context`, `question` and `answers`, as JSON or JSON
    /// Lines. It may be packed as gzip, xz or zip.
    ///
    /// Numbers may be text, and a list of one element may be the element itself. An answer a few
    /// characters from its offset in the file is found. Questions whose answer is not in the text,
    /// or that have none and are not marked as impossible, are left out: see
    /// [`report`](Self::report).
    ///
    /// # Errors
    /// [`Malformed`](DatasetError::Malformed) for a file in another format or without usable
    /// questions; or those of [`ByteCorpus::open_unpacked`](crate::ByteCorpus::open_unpacked).
    pub fn open_squad(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let path = path.as_ref();
        let mut report = ReadReport::at(path);
        let text = read_text(path, &mut report)?;
        let questions = squad::read(as_str(&text), &mut report)
            .map_err(|found| DatasetError::malformed(path, "a file of SQuAD", found))?;
        Ok(Self::of(Arc::new(report), questions))
    }

    /// Splits the questions for training and validation: of `every` different texts about one goes
    /// into the latter with all its questions, and at least one, chosen by a hash of the text. No
    /// text is in both.
    ///
    /// # Errors
    /// [`TooFew`](DatasetError::TooFew) when there are less than two different texts.
    pub fn split(&self, every: usize) -> Result<[Self; 2], DatasetError> {
        // Questions about one text share it, so it is hashed once.
        let mut last: Option<(&Arc<str>, u128)> = None;
        let keys = self.questions.iter().map(|question| match last {
            Some((context, key)) if Arc::ptr_eq(context, &question.context) => (key, 0),
            _ => {
                let key = key(question.context.as_bytes());
                last = Some((&question.context, key));
                (key, 0)
            }
        });
        let parts = hold_out(keys, every).map_err(|n| DatasetError::TooFew {
            name: self.name().to_owned(),
            n,
            unit: "texts",
            left_out: self.report.left_out(),
        })?;
        Ok(parts.map(|numbers| {
            let part = numbers.iter().map(|&number| self.questions[number].clone());
            Self::of(self.report.clone(), part.collect())
        }))
    }

    /// The questions with a target in rows of at most `max_length` tokens: whose answer, if there
    /// is one, lies in the part of the text that fits.
    pub fn fitting(&self, max_length: usize) -> Self {
        let fitting = self.questions.iter();
        let fitting = fitting.filter(|question| question.span(max_length).is_some());
        Self::of(self.report.clone(), fitting.cloned().collect())
    }

    /// Tokens of the shortest and of the longest row that a question needs, each up to the end of its first answer; `None`
    /// when there are no questions.
    pub fn needed_lengths(&self) -> Option<[usize; 2]> {
        let spans = self.questions.iter().filter_map(|q| q.span(usize::MAX));
        let lengths = spans.map(|[_, last]| last + 1);
        Some([lengths.clone().min()?, lengths.max()?])
    }

    /// The path it was read from, or the name it was given.
    pub fn name(&self) -> &str {
        &self.report.name
    }

    /// What was read, with the number of questions in this set.
    pub fn report(&self) -> ReadReport {
        ReadReport::clone(&self.report).with_count(self.len(), "questions")
    }

    /// Number of questions.
    pub fn len(&self) -> usize {
        self.questions.len()
    }

    /// Whether there are no questions.
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// A question; `None` when there is no question of this number.
    pub fn get(&self, index: usize) -> Option<&Question> {
        self.questions.get(index)
    }

    /// The questions in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Question> {
        self.questions.iter()
    }

    /// Rows for a question answering model: [`BEGIN`], the question, [`SEPARATOR`], the text, up to
    /// `max_length` tokens in all, with the first and the last position of the first answer. They
    /// are 0, the position of [`BEGIN`], if there is no answer, and negative if it does not fit.
    pub fn encode(&self, max_length: usize) -> LabelledRows {
        let rows = self.questions.iter().map(|question| {
            let span = question.span(max_length);
            let targets = span.map_or([-1; 2], |span| span.map(|position| position as i32));
            (question.tokens(max_length), targets)
        });
        LabelledRows::new(usize::from(SEPARATOR) + 1, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn questions() -> Questions {
        let question = |id: &str, context: &str, answers: &[[usize; 2]]| Question {
            id: id.to_owned(),
            question: "wer?".to_owned(),
            context: context.into(),
            answers: answers.iter().map(|[start, end]| *start..*end).collect(),
        };
        let questions = vec![
            question("a", "Käthe und Tom", &[[0, 6], [11, 14]]),
            question("b", "niemand", &[]),
            question("c", "und Tom", &[[4, 7]]),
        ];
        Questions::new("three", questions)
    }

    #[test]
    fn rows_point_at_bytes() {
        let rows = questions().encode(100);
        assert_eq!(
            rows.tokens(2)[..7],
            [BEGIN, 119, 101, 114, 63, SEPARATOR, 117]
        );
        assert_eq!(rows.targets(0), [6, 11]);
        assert_eq!(questions().get(0).unwrap().text_at([6, 11]), "Käthe");
        // A part of a character is extended to all of it: ä has two bytes.
        assert_eq!(questions().get(0).unwrap().text_at([6, 7]), "Kä");
        assert_eq!(questions().get(0).unwrap().text_at([8, 8]), "ä");
        assert_eq!(rows.targets(1), [0, 0]);
        assert_eq!(rows.targets(2), [10, 12]);
        assert_eq!(rows.vocab_size(), 258);
    }

    #[test]
    fn what_does_not_fit_is_cut_and_not_learned() {
        let short = questions().encode(12);
        assert_eq!(short.tokens(0).len(), 12);
        assert_eq!(short.targets(0), [6, 11]);
        assert_eq!(short.targets(1), [0, 0]);
        assert_eq!(short.targets(2), [-1, -1]);
        let fitting = questions().fitting(12);
        let ids: Vec<&str> = fitting
            .iter()
            .map(|question| question.id.as_str())
            .collect();
        assert_eq!(ids, ["a", "b"]);
        // The question that has no answer needs nothing but its first token.
        assert_eq!(questions().needed_lengths(), Some([1, 13]));
        assert_eq!(Questions::new("none", vec![]).needed_lengths(), None);
    }

    #[test]
    fn sample_has_the_answers_in_its_texts() {
        let [train, valid] = Questions::sample();
        assert_eq!(valid.len(), 794);
        let mut sentences = std::collections::HashSet::new();
        for question in train.iter() {
            let [answer] = &question.answers[..] else {
                panic!("one answer");
            };
            assert!(!question.context[answer.clone()].is_empty());
            sentences.insert(question.context[answer.clone()].to_owned());
        }
        for question in valid.iter() {
            let answer = question.answer_texts().next().unwrap();
            assert!(!sentences.contains(answer), "{answer}");
        }
        assert_eq!(Questions::sample(), [train, valid]);
    }
}
