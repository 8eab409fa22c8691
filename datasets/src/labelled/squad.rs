//! The file format of SQuAD (Rajpurkar et al., 2016; 2018).

use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;

use crate::labelled::questions::Question;

#[derive(Deserialize)]
struct File {
    data: Vec<Article>,
}

#[derive(Deserialize)]
struct Article {
    paragraphs: Vec<Paragraph>,
}

#[derive(Deserialize)]
struct Paragraph {
    context: String,
    qas: Vec<Asked>,
}

#[derive(Deserialize)]
struct Asked {
    id: String,
    question: String,
    #[serde(default)]
    answers: Vec<Answer>,
    /// Only in 2.0.
    #[serde(default)]
    is_impossible: bool,
}

#[derive(Deserialize)]
struct Answer {
    text: String,
    /// In characters.
    answer_start: usize,
}

/// The questions of a file, or what is wrong with it.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Question>, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let mut questions = Vec::new();
    for paragraph in file.data.into_iter().flat_map(|article| article.paragraphs) {
        let context: Arc<str> = paragraph.context.into();
        for asked in paragraph.qas {
            questions.push(question(asked, context.clone())?);
        }
    }
    match questions.is_empty() {
        true => Err("it has no questions".to_owned()),
        false => Ok(questions),
    }
}

fn question(asked: Asked, context: Arc<str>) -> Result<Question, String> {
    let id = asked.id;
    if asked.answers.is_empty() && !asked.is_impossible {
        return Err(format!(
            "question `{id}` has no answer and is not marked by is_impossible"
        ));
    }
    let answers = match asked.is_impossible {
        true => vec![],
        false => asked.answers,
    };
    let place = |answer: &Answer| {
        place(&context, answer).ok_or_else(|| {
            let Answer { text, answer_start } = answer;
            format!(
                "answer `{text}` of question `{id}` is not at character {answer_start} of its text"
            )
        })
    };
    let answers = answers.iter().map(place).collect::<Result<_, _>>()?;
    Ok(Question {
        id,
        question: asked.question,
        context,
        answers,
    })
}

/// The bytes of an answer, if it is there.
fn place(context: &str, answer: &Answer) -> Option<Range<usize>> {
    let (start, _) = context.char_indices().nth(answer.answer_start)?;
    let is_there = !answer.text.is_empty() && context[start..].starts_with(&answer.text);
    is_there.then(|| start..start + answer.text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let questions = read(file(asked).as_bytes()).unwrap();
        let answers: Vec<&str> = questions[0].answer_texts().collect();
        assert_eq!(answers, ["Wien", "in Wien"]);
        assert_eq!(questions[0].answers[0], 15..19);
        assert!(questions[1].answers.is_empty());
        assert!(Arc::ptr_eq(&questions[0].context, &questions[1].context));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let answer = |answer: &str| {
            file(&format!(
                r#"{{"id": "q7", "question": "Wo?", "answers": [{answer}]}}"#
            ))
        };
        for (text, found) in [
            (
                answer(r#"{"text": "Wien", "answer_start": 12}"#),
                "`Wien` of question `q7` is not at character 12",
            ),
            (
                answer(r#"{"text": "Wien", "answer_start": 99}"#),
                "character 99",
            ),
            (answer(r#"{"text": "", "answer_start": 2}"#), "character 2"),
            (answer(""), "`q7` has no answer"),
            (file(""), "no questions"),
            (
                r#"{"data": [{"paragraphs": [{}]}]}"#.to_owned(),
                "missing field `context` at line 1",
            ),
            ("hello".to_owned(), "line 1 column 1"),
        ] {
            let error = read(text.as_bytes()).unwrap_err();
            assert!(error.contains(found), "{error}");
        }
    }
}
