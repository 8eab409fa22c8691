//! Scores of answers, as in the evaluation script of SQuAD 2.0.

use std::collections::HashMap;

use crate::labelled::questions::Question;

/// Mean scores of answers, in percent.
///
/// Before answers are compared, letters are lowercased, ASCII punctuation and the words *a*, *an*
/// and *the* removed, and white space becomes single spaces. Of several accepted answers the best
/// match counts. Without any, only the empty answer is right.
///
/// # Example
///
/// ```
/// use reformer_datasets::labelled::{AnswerScore, Question};
///
/// let question = Question {
///     id: "1".to_owned(),
///     question: "Who?".to_owned(),
///     context: "It was the king of Spain.".into(),
///     answers: vec![7..24, 11..24],
/// };
/// // Two of three words are right, and all words of the answer.
/// let score = AnswerScore::of([(&question, "a king, Spain")]);
/// assert_eq!(score.exact_match, 0.0);
/// assert!((score.f1 - 80.0).abs() < 1e-9);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnswerScore {
    /// Share of answers that equal a right one.
    pub exact_match: f64,
    /// Harmonic mean of precision (right words of the answer) and recall (words of the right answer
    /// that were found).
    pub f1: f64,
    /// Number of questions.
    pub n_questions: usize,
}

impl AnswerScore {
    /// The scores of answers, which are empty where none was found. All are 0 without questions.
    pub fn of<'a>(answers: impl IntoIterator<Item = (&'a Question, &'a str)>) -> Self {
        let (mut exact_match, mut f1, mut n_questions) = (0.0, 0.0, 0_usize);
        for (question, answer) in answers {
            let answer = words(answer);
            let mut right: Vec<Vec<String>> = question.answer_texts().map(words).collect();
            right.retain(|right| !right.is_empty());
            if right.is_empty() {
                right.push(vec![]);
            }
            exact_match += f64::from(right.contains(&answer));
            f1 += right
                .iter()
                .map(|right| f1_of(&answer, right))
                .fold(0.0, f64::max);
            n_questions += 1;
        }
        let percent = |sum: f64| 100.0 * sum / n_questions.max(1) as f64;
        Self {
            exact_match: percent(exact_match),
            f1: percent(f1),
            n_questions,
        }
    }
}

/// The words of an answer after normalisation.
fn words(answer: &str) -> Vec<String> {
    let lower = answer.to_lowercase();
    let lower: String = lower
        .chars()
        .filter(|c| !c.is_ascii_punctuation())
        .collect();
    let mut text = String::with_capacity(lower.len());
    let mut rest = lower.as_str();
    while let Some(first) = rest.chars().next() {
        let is_word = first.is_alphanumeric();
        let end = rest.find(|c: char| c.is_alphanumeric() != is_word);
        let (run, after) = rest.split_at(end.unwrap_or(rest.len()));
        text += match run {
            "a" | "an" | "the" => " ",
            run => run,
        };
        rest = after;
    }
    text.split_whitespace().map(str::to_owned).collect()
}

fn f1_of(answer: &[String], right: &[String]) -> f64 {
    if answer.is_empty() || right.is_empty() {
        return f64::from(answer == right);
    }
    let mut left: HashMap<&String, usize> = HashMap::new();
    for word in right {
        *left.entry(word).or_default() += 1;
    }
    let mut n_same = 0.0;
    for word in answer {
        if let Some(n) = left.get_mut(word).filter(|n| **n > 0) {
            *n -= 1;
            n_same += 1.0;
        }
    }
    if n_same == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (n_same / answer.len() as f64, n_same / right.len() as f64);
    2.0 * precision * recall / (precision + recall)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(context: &str, answers: &[&str]) -> Question {
        let range = |answer: &&str| {
            let start = context.find(answer).expect("it is there");
            start..start + answer.len()
        };
        Question {
            id: String::new(),
            question: String::new(),
            context: context.into(),
            answers: answers.iter().map(range).collect(),
        }
    }

    fn score(question: &Question, answer: &str) -> [f64; 2] {
        let score = AnswerScore::of([(question, answer)]);
        [score.exact_match, score.f1]
    }

    #[test]
    fn case_articles_punctuation_and_blanks_do_not_count() {
        assert_eq!(
            words("The  A-Team's\tan “end”, theatre"),
            ["ateams", "“end”", "theatre"]
        );
        assert_eq!(words("a–b"), ["–b"]);
        let eiffel = question("the Eiffel Tower", &["the Eiffel Tower"]);
        assert_eq!(score(&eiffel, "eiffel tower!"), [100.0, 100.0]);
    }

    #[test]
    fn words_count_as_often_as_they_are_there() {
        // Precision 2 of 3, recall 2 of 4.
        let [exact_match, f1] = score(&question("x x y z", &["x x y z"]), "x y y");
        assert_eq!(exact_match, 0.0);
        assert!((f1 - 100.0 * 4.0 / 7.0).abs() < 1e-9, "{f1}");
        assert_eq!(score(&question("x", &["x"]), "y"), [0.0, 0.0]);
    }

    #[test]
    fn best_of_several_answers_counts() {
        let either = question("red wine or beer", &["red wine", "beer"]);
        assert_eq!(score(&either, "beer"), [100.0, 100.0]);
    }

    #[test]
    fn only_silence_is_right_without_an_answer() {
        let none = question("nothing", &[]);
        assert_eq!(score(&none, ""), [100.0, 100.0]);
        assert_eq!(score(&none, "nothing"), [0.0, 0.0]);
        let some = question("nothing", &["nothing"]);
        assert_eq!(score(&some, ""), [0.0, 0.0]);
        assert_eq!(AnswerScore::of([]).f1, 0.0);
    }
}
