//! The tokenisation of BLEU: the international standard of the WMT evaluations, mteval-v13a.

use std::sync::LazyLock;

use regex::Regex;

/// Each pattern is replaced everywhere, in this order.
static RULES: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
    let rule = |pattern, replacement| {
        (
            Regex::new(pattern).expect("the pattern is a constant"),
            replacement,
        )
    };
    [
        // ASCII punctuation is a token of its own, except for comma, full stop, hyphen, apostrophe;
        rule(r#"([{-~\[-` -&(-+:-@/])"#, " $1 "),
        // comma and full stop, too, unless there are digits on both sides;
        rule(r"([^0-9])([.,])", "$1 $2 "),
        rule(r"([.,])([^0-9])", " $1 $2"),
        // and a hyphen after a digit.
        rule(r"([0-9])(-)", "$1 $2 "),
    ]
});

/// Splits a sentence into tokens as sacreBLEU's `tok:13a` does.
pub(super) fn tokenize_13a(sentence: &str) -> Vec<String> {
    let mut line = sentence
        .trim_end_matches(is_space)
        .replace("<skipped>", "")
        .replace("-\n", "")
        .replace('\n', " ");
    for (entity, character) in [
        ("&quot;", "\""),
        ("&amp;", "&"),
        ("&lt;", "<"),
        ("&gt;", ">"),
    ] {
        line = line.replace(entity, character);
    }
    line = format!(" {line} ");
    for (pattern, replacement) in RULES.iter() {
        line = pattern.replace_all(&line, *replacement).into_owned();
    }
    line.split(is_space)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// White space in Python, which defines the standard: Unicode's white space and four control
/// characters.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_standard() {
        for (sentence, words) in [
            ("", ""),
            ("Hello, world!", "Hello , world !"),
            (
                "It costs 1,234.50 (or so).",
                "It costs 1,234.50 ( or so ) .",
            ),
            ("pages 3-5, semi-final", "pages 3 - 5 , semi-final"),
            ("&quot;R&amp;D&quot; &lt;3", "\" R & D \" < 3"),
            ("don't .5 5. x", "don't . 5 5 . x"),
            ("a\u{a0}b\u{1f}c\u{3000}d \n", "a b c d"),
            ("„Äpfel“, 3€.", "„Äpfel“ , 3€ ."),
        ] {
            assert_eq!(tokenize_13a(sentence).join(" "), words, "{sentence:?}");
        }
    }
}
