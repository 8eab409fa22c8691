//! How the program was called: by its own name, or as a subcommand of `reformer`.

use std::env;
use std::env::consts::EXE_SUFFIX;
use std::ffi::OsString;
use std::path::Path;
use std::sync::OnceLock;

/// A program's name, and the words after `reformer` that call it.
pub(crate) type Words = (&'static str, &'static str);

/// A program that was called as a subcommand of `reformer`.
#[derive(Debug)]
struct Part {
    words: &'static str,
    all: Vec<Words>,
    arguments: Vec<OsString>,
}

static PART: OnceLock<Part> = OnceLock::new();

impl Part {
    /// The words that call a program, if it is one of this crate.
    fn words_of(&self, name: &str) -> Option<&'static str> {
        let found = self.all.iter().find(|(own, _)| *own == name);
        found.map(|(_, words)| *words)
    }
}

/// Runs this process as the program with the given words and arguments. Only the first call has an
/// effect.
pub(crate) fn as_part(words: &'static str, all: Vec<Words>, arguments: Vec<OsString>) {
    PART.get_or_init(|| Part {
        words,
        all,
        arguments,
    });
}

/// The arguments of the program, after the name it was called by.
pub(crate) fn arguments() -> Vec<OsString> {
    match PART.get() {
        Some(part) => {
            let name = OsString::from(format!("reformer {}", part.words));
            std::iter::once(name)
                .chain(part.arguments.iter().cloned())
                .collect()
        }
        None => env::args_os().collect(),
    }
}

/// The name that this program was called by: `train_text`, or `reformer train text`.
pub(crate) fn own_name() -> String {
    let called = arguments().into_iter().next().unwrap_or_default();
    let name = Path::new(&called).file_name().unwrap_or(&called);
    let name = name.to_string_lossy();
    name.strip_suffix(EXE_SUFFIX).unwrap_or(&name).to_owned()
}

/// The words after the name of the executable that call the same program again.
pub(crate) fn words() -> impl Iterator<Item = &'static str> {
    PART.get()
        .map_or("", |part| part.words)
        .split_ascii_whitespace()
}

/// The shell command for a program of this crate, of the same form as the call of this one: as a subcommand of
/// `reformer`, installed, or by cargo.
pub(crate) fn command(name: &str) -> String {
    let by_cargo = |binary: &str| format!("cargo run --release -p experiments --bin {binary} --");
    let is_built = env::current_exe().is_ok_and(|path| is_build(&path));
    match (PART.get(), is_built) {
        (None, true) => by_cargo(name),
        (None, false) => name.to_owned(),
        (Some(part), _) => {
            let words = part.words_of(name).unwrap_or(name);
            match is_built {
                true => format!("{} {words}", by_cargo("reformer")),
                false => format!("reformer {words}"),
            }
        }
    }
}

/// Whether an executable is in one of cargo's build folders.
fn is_build(path: &Path) -> bool {
    let folder = path.parent().and_then(Path::file_name);
    folder.is_some_and(|folder| folder == "release" || folder == "debug")
}

/// The name of a program of this crate, as it is called: `train_text`, or `reformer train text`.
pub(crate) fn name(program: &str) -> String {
    let words = PART.get().and_then(|part| part.words_of(program));
    words.map_or(program.to_owned(), |words| format!("reformer {words}"))
}

/// Rewrites the names of programs in a help text in the form in which this program was called.
pub(crate) fn help(text: &str) -> String {
    match PART.get() {
        None => text.to_owned(),
        Some(part) => {
            // An indented line is a command or, with a colon at its end, the title of one: no command may end so.
            let is_command = |line: &str| line.starts_with(' ') && !line.ends_with(':');
            let lines = text.split('\n').map(|line| match is_command(line) {
                true => example(line, part),
                false => prose(line),
            });
            lines.collect::<Vec<_>>().join("\n")
        }
    }
}

/// Replaces names of programs in a sentence: in backticks all of them, elsewhere only those with an underscore, which
/// are no plain words.
fn prose(line: &str) -> String {
    let is_of_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut written = String::new();
    let mut rest = line;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        match name(word) {
            called if written.ends_with('`') => written += &called,
            called if called != word && word.contains('_') => {
                written += &format!("`{called}`");
            }
            _ => written += word,
        }
        let next = after.find(is_of_word).unwrap_or(after.len());
        written += &after[..next];
        rest = &after[next..];
    }
    written
}

/// Replaces names of programs by the words that call them: at the beginning of a line, or before flags or the
/// end of a line.
fn example(line: &str, part: &Part) -> String {
    let mut words = line.split(' ').peekable();
    let mut written: Vec<String> = Vec::new();
    while let Some(word) = words.next() {
        let is_first = written.iter().all(String::is_empty);
        let is_called = is_first || words.peek().is_none_or(|next| next.starts_with('-'));
        let called = part.words_of(word).filter(|_| is_called);
        written.push(called.map_or(word.to_owned(), |words| format!("reformer {words}")));
    }
    written.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_called_by_their_words() {
        assert_eq!(words().count(), 0);
        let text = "See train_text, or `answer`:\n  generate_text --x";
        assert_eq!(help(text), text);
        assert_eq!(name("train_text"), "train_text");
        let all = vec![
            ("train_text", "train text"),
            ("generate_text", "generate text"),
            ("answer", "predict answers"),
        ];
        as_part("train text", all, vec!["--steps".into(), "3".into()]);
        assert_eq!(arguments(), ["reformer train text", "--steps", "3"]);
        assert_eq!(own_name(), "reformer train text");
        assert_eq!(words().collect::<Vec<_>>(), ["train", "text"]);
        assert!(command("generate_text").ends_with("reformer generate text"));
        assert_eq!(name("train_text"), "reformer train text");
        assert_eq!(name("my_text"), "my_text");
        assert_eq!(
            help(
                "Of train_text's:\n  train_text\n    mpirun -n 2 train_text --data a\n  After train_text:\n  a train_text run"
            ),
            "Of `reformer train text`'s:\n  reformer train text\n    mpirun -n 2 reformer train text --data a\n  \
             After `reformer train text`:\n  a train_text run"
        );
        assert_eq!(
            help("`train_text --x` and my_text, `answer` it: an answer"),
            "`reformer train text --x` and my_text, `reformer predict answers` it: an answer"
        );
        assert!(is_build(Path::new("target/release/x")) && !is_build(Path::new("bin/x")));
    }
}
