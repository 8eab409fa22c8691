//! Text for terminals, without control characters.

use std::borrow::Cow;
use std::io::{self, Write};

/// A text as a terminal may show it: control characters, which could move the cursor, change a title
/// or hide other text, and those that turn the direction of writing are spelled out as in Rust (`\u{1b}`).
/// Line ends and tabs stay.
///
/// ```
/// use reformer_train::screen::console::printable;
///
/// assert_eq!(printable("one\ttwo\n"), "one\ttwo\n");
/// assert_eq!(printable("\x1b[2Jgone"), "\\u{1b}[2Jgone");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_hidden = |c: char| (c.is_control() && c != '\n' && c != '\t') || turns(c);
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match is_hidden(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Writes a [printable] text and a line end to standard error. If that fails, the text is lost,
/// which is never a reason to stop.
pub fn tell(text: &str) {
    let line = format!("{}\n", printable(text));
    io::stderr().write_all(line.as_bytes()).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_is_left() {
        let hostile = "a\x07\x1b]0;title\x07\r\x7f\u{9b}2J\u{202e}b\n";
        let shown = printable(hostile);
        assert!(shown.chars().all(|c| !c.is_control() || c == '\n'));
        assert_eq!(
            shown,
            "a\\u{7}\\u{1b}]0;title\\u{7}\\r\\u{7f}\\u{9b}2J\\u{202e}b\n"
        );
        assert!(matches!(printable("Ünïcode 🎭"), Cow::Borrowed(_)));
    }
}
