//! How the program was called: by its own name, or as a subcommand of `reformer`.

use std::env;
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
            let found = part.all.iter().find(|(own, _)| *own == name);
            let words = found.map_or(name, |(_, words)| words);
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

/// Rewrites the examples (indented lines) of a help text in the form in which this program was called.
pub(crate) fn examples(text: &str) -> String {
    match PART.get() {
        None => text.to_owned(),
        Some(part) => {
            let lines = text.split('\n').map(|line| match line.starts_with(' ') {
                true => example(line, &part.all),
                false => line.to_owned(),
            });
            lines.collect::<Vec<_>>().join("\n")
        }
    }
}

/// Replaces names of programs by the words that call them: at the beginning of a line, or before flags or the
/// end of a line.
fn example(line: &str, all: &[Words]) -> String {
    let mut words = line.split(' ').peekable();
    let mut written: Vec<String> = Vec::new();
    while let Some(word) = words.next() {
        let is_first = written.iter().all(String::is_empty);
        let is_called = is_first || words.peek().is_none_or(|next| next.starts_with('-'));
        let part = all.iter().find(|(name, _)| is_called && *name == word);
        written.push(part.map_or(word.to_owned(), |(_, words)| format!("reformer {words}")));
    }
    written.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_called_by_their_words() {
        assert_eq!(words().count(), 0);
        assert_eq!(examples("  generate_text --x"), "  generate_text --x");
        let all = vec![
            ("train_text", "train text"),
            ("generate_text", "generate text"),
        ];
        as_part("train text", all, vec!["--steps".into(), "3".into()]);
        assert_eq!(arguments(), ["reformer train text", "--steps", "3"]);
        assert_eq!(words().collect::<Vec<_>>(), ["train", "text"]);
        assert!(command("generate_text").ends_with("reformer generate text"));
        assert_eq!(
            examples(
                "Of train_text --x:\n  train_text\n    mpirun -n 2 train_text --data a\n  a train_text run"
            ),
            "Of train_text --x:\n  reformer train text\n    mpirun -n 2 reformer train text --data a\n  a train_text run"
        );
        assert!(is_build(Path::new("target/release/x")) && !is_build(Path::new("bin/x")));
    }
}
