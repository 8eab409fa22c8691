//! Files of questions: the format of SQuAD (Rajpurkar et al., 2016; 2018) with its common variants,
//! and rows of Hugging Face, as JSON or JSON Lines.

use std::ops::Range;
use std::sync::Arc;

use crate::labelled::characters::Characters;
use crate::labelled::json::{Answer, Answers, Entry};
use crate::labelled::questions::Question;
use crate::report::ReadReport;

/// Maximum distance of an answer from its offset in the file, in characters.
const MAX_MOVED: usize = 20;
/// A reason for leaving questions out.
const NOT_GIVEN: &str = "questions without an answer that are not marked as impossible";
const NOT_FOUND: &str = "questions whose answer is not at, or near, the offset in the file";
const INCOMPLETE: &str = "entries without a question or a context";

/// The questions of a file, or a description of the problem. Unusable questions are left out, and
/// counted in the report.
pub(super) fn read(text: &str, report: &mut ReadReport) -> Result<Vec<Question>, String> {
    let mut reader = Reader {
        questions: Vec::new(),
        n_moved: 0,
        n_unanswered: 0,
        report,
    };
    // A single value, or one per line.
    for entry in serde_json::Deserializer::from_str(text).into_iter() {
        let entry: Entry = entry.map_err(|error| error.to_string())?;
        reader.add(entry, None);
    }
    let Reader {
        questions,
        n_moved,
        n_unanswered,
        report,
    } = reader;
    if n_unanswered > 0 {
        report.note(format!(
            "{n_unanswered} questions have no answer in their text"
        ));
    }
    if n_moved > 0 {
        report.note(format!("{n_moved} answers found near their offset"));
    }
    if !questions.is_empty() {
        return Ok(questions);
    }
    Err(match report.skipped.first() {
        Some(skipped) => format!(
            "it has no questions but {} {}",
            skipped.count, skipped.reason
        ),
        None => "it has no questions".to_owned(),
    })
}

struct Reader<'a> {
    questions: Vec<Question>,
    n_moved: usize,
    n_unanswered: usize,
    report: &'a mut ReadReport,
}

impl Reader<'_> {
    /// Adds the questions of an entry and of nested entries, which use its text if they have none.
    fn add(&mut self, entry: Entry, around: Option<&Arc<Characters>>) {
        let own = entry
            .context
            .map(|context| Arc::new(Characters::of(context)));
        let context = own.as_ref().or(around);
        for inside in entry.entries {
            self.add(inside, context);
        }
        if entry.question.is_none() && entry.answers.is_none() {
            // A file, an article or a paragraph.
            return;
        }
        let id = entry
            .id
            .unwrap_or_else(|| format!("number {}", self.questions.len() + 1));
        let (Some(context), Some(question)) = (context, entry.question) else {
            self.report.skip(INCOMPLETE, id);
            return;
        };
        match self.answers(entry.answers, entry.is_impossible, context) {
            Ok(answers) => {
                self.n_unanswered += usize::from(answers.is_empty());
                self.questions.push(Question {
                    id,
                    question,
                    context: context.text().clone(),
                    answers,
                });
            }
            Err(reason) => self.report.skip(reason, id),
        }
    }

    /// The byte ranges of the answers; empty if the text has none.
    fn answers(
        &mut self,
        answers: Option<Answers>,
        is_impossible: bool,
        context: &Characters,
    ) -> Result<Vec<Range<usize>>, &'static str> {
        if is_impossible {
            return Ok(Vec::new());
        }
        let Some(Answers(answers)) = answers else {
            return Err(NOT_GIVEN);
        };
        let mut ranges = Vec::new();
        let is_given = |answer: &&Answer| !answer.text.is_empty();
        for answer in answers.iter().filter(is_given) {
            match context.find(&answer.text, answer.start, MAX_MOVED) {
                Some((range, 0)) => ranges.push(range),
                Some((range, _)) => {
                    self.n_moved += 1;
                    ranges.push(range);
                }
                None => {}
            }
        }
        // In SQuAD 2.0, an empty list means that the text has no answer, even without a mark.
        match ranges.is_empty() && answers.iter().any(|answer| !answer.text.is_empty()) {
            true => Err(NOT_FOUND),
            false => Ok(ranges),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// IDs of questions, each with its answers.
    type Answered = Vec<(String, Vec<String>)>;

    /// The file's questions, and the report.
    fn read_reported(text: &str) -> Result<(Answered, String), String> {
        let mut report = ReadReport::default();
        let questions = read(text, &mut report)?;
        let read = questions.into_iter().map(|question| {
            let answers = question.answer_texts().map(str::to_owned).collect();
            (question.id.clone(), answers)
        });
        Ok((read.collect(), report.to_string()))
    }

    fn file(qas: &str) -> String {
        format!(
            r#"{{"version": "v2.0", "data": [{{"title": "t", "paragraphs": [
                {{"context": "Ärger 🎭 in Wien", "qas": [{qas}]}}]}}]}}"#
        )
    }

    #[test]
    fn offsets_count_characters() {
        let asked = r#"{"id": "1", "question": "Wo?", "answers": [
            {"text": "Wien", "answer_start": 11}, {"text": "in Wien", "answer_start": 8}]},
            {"id": "2", "question": "Wer?", "is_impossible": true, "answers": [],
             "plausible_answers": [{"text": "Wien", "answer_start": 11}]}"#;
        let questions = read(&file(asked), &mut ReadReport::default()).unwrap();
        let answers: Vec<&str> = questions[0].answer_texts().collect();
        assert_eq!(answers, ["Wien", "in Wien"]);
        assert_eq!(questions[0].answers[0], 15..19);
        assert!(questions[1].answers.is_empty());
        assert!(Arc::ptr_eq(&questions[0].context, &questions[1].context));
    }

    #[test]
    fn ids_and_offsets_are_numbers_or_text() {
        for answer in [
            r#"{"text": "Wien", "answer_start": "11"}"#,
            r#"{"text": "Wien", "answer_start": 11.0}"#,
            r#"{"text": "Wien", "answer_start": [11]}"#,
            r#"{"text": ["Wien"], "answer_start": ["11"]}"#,
            r#"{"text": "Wien", "answer_start": 13, "extra": {"a": []}}"#,
            r#"{"text": "Wien", "answer_start": 0}"#,
            r#"{"text": "Wien", "answer_start": -1}"#,
            r#"{"text": "Wien", "answer_start": null}"#,
            r#"{"answer_start": 11, "text": "Wien"}, {"text": "Rom", "answer_start": 1}"#,
            r#""Wien""#,
        ] {
            for (start, end) in [("[", "]"), ("", "")] {
                let asked =
                    format!(r#"{{"id": 7, "question": "Wo?", "answers": {start}{answer}{end}}}"#);
                if start.is_empty() && answer.contains("Rom") {
                    continue;
                }
                let (read, _) = read_reported(&file(&asked)).expect(answer);
                assert_eq!(
                    read,
                    [("7".to_owned(), vec!["Wien".to_owned()])],
                    "{answer}"
                );
            }
        }
    }

    #[test]
    fn questions_without_an_answer_are_reported() {
        let asked = r#"{"id": "a", "question": "?", "answers": []},
            {"id": "b", "question": "?", "answers": [{"text": "", "answer_start": -1}], "is_impossible": true},
            {"id": "c", "question": "?", "answers": {"text": [], "answer_start": []}},
            {"id": "d", "question": "?"},
            {"id": "e", "question": "?", "answers": null},
            {"id": "f", "question": "?", "answers": [{"text": "Rom", "answer_start": 11}]},
            {"id": "g", "question": "?", "answers": [{"text": "Wien", "answer_start": 12}]},
            {"id": "h", "answers": [{"text": "Wien", "answer_start": 12}]}"#;
        let (read, report) = read_reported(&file(asked)).expect("it is a file");
        let ids: Vec<&str> = read.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "c", "g"]);
        assert!(read[..3].iter().all(|(_, answers)| answers.is_empty()));
        for expected in [
            &format!("2 {NOT_GIVEN} (first: d)"),
            &format!("1 {NOT_FOUND} (first: f)"),
            &format!("1 {INCOMPLETE} (first: h)"),
            "3 questions have no answer",
            "1 answers found near",
        ] {
            assert!(report.contains(expected), "{report}");
        }
    }

    #[test]
    fn rows_and_lines_are_files_too() {
        let row = |id: usize| {
            format!(
                r#"{{"id": "{id}", "title": "t", "context": "in Wien", "question": "Wo?",
                    "answers": {{"text": ["Wien"], "answer_start": [3]}}}}"#
            )
        };
        let rows = [row(0), row(1)];
        let paragraph =
            r#"{"context": "in Wien", "qas": {"id": 0, "question": "?", "answers": []}}"#;
        for (text, n) in [
            (
                format!(r#"{{"version": "0.1.0", "data": [{}]}}"#, rows.join(",")),
                2,
            ),
            (format!("[{}]", rows.join(",")), 2),
            (rows.join("\n").replace("\n                    ", " "), 2),
            (format!(r#"{{"data": [{{"paragraphs": {paragraph}}}]}}"#), 1),
            (
                format!(r#"{{"data": {{"paragraphs": [{paragraph}, {paragraph}]}}}}"#),
                2,
            ),
            (format!(r#"[{{"paragraphs": [{paragraph}]}}]"#), 1),
        ] {
            let (read, _) = read_reported(&text).expect(&text);
            assert_eq!(read.len(), n, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, found) in [
            (file(""), "it has no questions"),
            (
                file(r#"{"id": "d", "question": "?"}"#),
                "it has no questions but 1 questions without an answer",
            ),
            (
                r#"{"data": [{"paragraphs": [{"qas": [7]}]}]}"#.to_owned(),
                "at line 1",
            ),
            (
                file(r#"{"question": "?", "answers": [{"text": {}}]}"#),
                "line 2",
            ),
            (file("")[..60].to_owned(), "EOF while parsing"),
            ("hello".to_owned(), "line 1 column 1"),
            (String::new(), "it has no questions"),
            (format!("{}1", "[".repeat(100_000)), "recursion limit"),
        ] {
            let error = read_reported(&text).unwrap_err();
            assert!(error.contains(found), "{error}");
        }
    }
}
