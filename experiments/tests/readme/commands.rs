//! The commands that documents and help texts show are accepted, and those that take seconds run.

use std::fs;
use std::path::Path;

use experiments::programs::reformer::check;
use reformer_datasets::ByteCorpus;

use crate::common::{printed, run};
use crate::{documents, regex, root};

const REFORMER: &str = env!("CARGO_BIN_EXE_reformer");

/// First words of commands that are of no program of ours.
const OTHERS: [&str; 6] = ["cargo", "pip", "python", "cd", "sh", "if"];
/// What stands for something that a user chooses, and a choice.
const PLACEHOLDERS: [(&str, Option<&str>); 3] =
    [("...", None), ("CHANGES", None), ("SEED", Some("1"))];

/// Programs that are run, with this argument, if what a command names is there: with settings that make them short.
const SHORT: [(&str, Option<&str>, &str); 5] = [
    (
        "train_text",
        None,
        "--sample-tokens 5 --set steps=2 --set steps_per_epoch=2 --set eval_windows=2 --set batch_size=2 \
         --set window_length=48 --set model.reformer.d_model=16 --set model.reformer.n_heads=2 \
         --set model.reformer.n_layers=1",
    ),
    (
        "train_classifier",
        Some("listops"),
        "--set steps=2 --set steps_per_epoch=2 --set batch_size=2 --set model.reformer.d_model=16 \
         --set model.reformer.n_heads=2 --set model.reformer.n_layers=1 --set data.LongRange.Lists.n_train=9 \
         --set data.LongRange.Lists.n_valid=9 --set data.LongRange.Lists.n_test=9",
    ),
    ("generate_text", None, "--tokens 20"),
    ("evaluate", None, ""),
    ("classify", None, ""),
];
/// The settings with which a run is resumed, since the others are its own.
const RESUMED: &str = "--steps 3 --sample-tokens 5";
/// Flags that name files and folders.
const PATHS: [&str; 6] = [
    "--data",
    "--tokenizer",
    "--prompt-file",
    "--checkpoint",
    "--resume",
    "--init-from",
];

/// A command of a program of this workspace.
#[derive(Debug, PartialEq)]
struct Command {
    /// The name of the program and its arguments, or the words after `reformer`.
    words: Vec<String>,
    /// Whether nothing else starts it, such as mpirun.
    is_alone: bool,
}

impl Command {
    /// The command in a line of a shell, if it is of a program of ours.
    fn of(line: &str) -> Option<Self> {
        let words = words(line);
        let is_end = |word: &&String| !["|", "&&", ";", ">", ">>"].contains(&word.as_str());
        let chosen = |word: &String| {
            let placeholder = PLACEHOLDERS.iter().find(|(name, _)| name == word);
            match placeholder {
                Some((_, choice)) => choice.map(str::to_owned),
                None => Some(word.clone()).filter(|word| !word.starts_with('$')),
            }
        };
        let given = |words: &[String]| -> Vec<String> {
            words.iter().take_while(is_end).filter_map(chosen).collect()
        };
        if words.first().is_some_and(|word| word == "cargo") {
            let is_run = words.get(1).is_some_and(|word| word == "run");
            let binary = words.iter().position(|word| word == "--bin");
            let binary = binary.filter(|_| is_run)?;
            let name = words.get(binary + 1)?;
            let is_alone = !words.iter().any(|word| word == "--features");
            let arguments = words.iter().position(|word| word == "--");
            let arguments = arguments.map_or(&[][..], |place| &words[place + 1..]);
            // `reformer` is called by the words after it.
            let name = Some(name.clone()).filter(|name| name != "reformer");
            let words: Vec<String> = name.into_iter().chain(given(arguments)).collect();
            let is_program = words.first().is_some_and(|name| name != "NAME");
            return is_program.then_some(Self { words, is_alone });
        }
        let start = words.iter().position(|word| is_program(word))?;
        let n_skipped = usize::from(words[start] == "reformer");
        Some(Self {
            words: given(&words[start + n_skipped..]),
            is_alone: start == 0,
        })
    }

    /// Asserts that the program and its arguments are accepted.
    fn check(&self, source: &str) {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        if let Err(error) = check(&words) {
            panic!("{source} shows {words:?}: {error}");
        }
    }

    /// Runs the command in a folder if it is short, and if what it needs is there.
    fn run(&self, folder: &Path) -> bool {
        let has = |wanted: &str| self.words.iter().any(|word| word == wanted);
        let short = SHORT
            .iter()
            .find(|(name, with, _)| *name == self.words[0] && with.is_none_or(has));
        let Some((.., settings)) = short.filter(|_| self.is_alone) else {
            return false;
        };
        let is_missing = |pair: &[String]| {
            let is_path = PATHS.contains(&pair[0].as_str()) && !pair[1].starts_with("bpe:");
            is_path && !folder.join(&pair[1]).exists()
        };
        if has("cuda") || self.words.windows(2).any(is_missing) {
            return false;
        }
        let settings = if has("--resume") { RESUMED } else { settings };
        let own = self.words.iter().map(String::as_str);
        let words: Vec<&str> = own.chain(settings.split_whitespace()).collect();
        printed(&run(REFORMER, folder, &words));
        true
    }
}

/// Whether a word is the name of a program.
fn is_program(word: &str) -> bool {
    let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin");
    let is_name = word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name && bin.join(word).with_extension("rs").exists()
}

/// The words of a line as a shell reads them, without a comment.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            (end, Some(begin)) if end == begin => quote = None,
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            ('$', None) if letters.peek() == Some(&'\'') => {}
            ('#', None) if word.is_none() => break,
            (' ', None) => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// The commands of a document: the lines of its shell code, and what begins a row of a table with flags.
fn commands(text: &str) -> Vec<Command> {
    let code = regex(r"(?ms)^```sh\n(.*?)^```");
    let text = text.replace("\\\n", " ");
    let code = code.captures_iter(&text).flat_map(|block| {
        let lines = block.get(1).expect("the code").as_str().lines();
        lines.filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
    });
    let code = code.filter_map(|line| {
        let command = Command::of(line);
        let first = line.split(' ').next().unwrap_or_default();
        let is_script = first.contains('/') && root().join(first).exists();
        let is_other = OTHERS.contains(&first) || first.contains('=') || is_script;
        assert!(
            command.is_some() || is_other,
            "`{line}` is a command of no program"
        );
        command
    });
    let row = regex(r"(?m)^\| `(\w+ -[^`]*)`");
    let rows = row
        .captures_iter(&text)
        .filter_map(|cell| Command::of(&cell[1]));
    code.chain(rows).collect()
}

#[test]
fn shown_commands_are_accepted_and_short_ones_run() {
    let text = ByteCorpus::sample();
    let (mut n_shown, mut n_run) = (0, 0);
    for document in documents() {
        let shown = fs::read_to_string(&document).expect("a document");
        let folder = tempfile::tempdir().expect("a folder");
        for (name, n_bytes) in [("book.txt", text.len()), ("chapter.txt", 20_000)] {
            let part = &text.as_bytes()[..n_bytes];
            fs::write(folder.path().join(name), part).expect("it is written");
        }
        for command in commands(&shown) {
            command.check(&document.display().to_string());
            n_shown += 1;
            n_run += usize::from(command.run(folder.path()));
        }
    }
    assert!(n_shown >= 30 && n_run >= 12, "{n_shown} {n_run}");
}

#[test]
fn examples_of_help_texts_are_accepted() {
    let folder = tempfile::tempdir().expect("a folder");
    let help = |words: &[&str]| printed(&run(REFORMER, folder.path(), words));
    let all = help(&[]);
    let program = regex(r"(?m)^  ([a-z]+(?: [a-z0-9-]+)?)  ");
    let mut n_shown = 0;
    for words in program.captures_iter(&all) {
        let called: Vec<&str> = words[1].split(' ').chain(["--help"]).collect();
        let help = help(&called);
        let (_, examples) = help.split_once("Examples:").expect(&words[1]);
        let examples = examples.lines().filter(|line| line.contains(" reformer "));
        for command in examples.filter_map(Command::of) {
            command.check(&words[1]);
            n_shown += 1;
        }
    }
    assert!(n_shown >= 100, "{n_shown}: {all}");
}

#[test]
fn commands_are_read_as_a_shell_reads_them() {
    let of = |line: &str| {
        let command = Command::of(line)?;
        Some((command.words.join("|"), command.is_alone))
    };
    let some = |words: &str, is_alone| Some((words.to_owned(), is_alone));
    assert_eq!(
        of("mpirun -n 2 train_text --resume runs/x ...  # two"),
        some("train_text|--resume|runs/x", false)
    );
    assert_eq!(
        of(
            "cargo run --release -p experiments --bin generate_text -- --prompt 'It was' --stop $'\\n'"
        ),
        some("generate_text|--prompt|It was|--stop|\\n", true)
    );
    assert_eq!(
        of("reformer train text --data 'a b' | cat"),
        some("train|text|--data|a b", true)
    );
    assert_eq!(
        of("cargo run --release -p experiments --bin reformer -- study table2 --seeds 1"),
        some("study|table2|--seeds|1", true)
    );
    assert_eq!(of("cargo test --release"), None);
    assert!(check(&["train_text", "--stepz", "3"]).is_err());
    assert!(check(&["train_txt"]).is_err());
    assert!(check(&["train_text", "--resume", "x", "--layers", "3"]).is_err());
}

#[test]
fn flags_of_published_commands_are_accepted() {
    for command in [
        "bench_step --depth 2 --chunk 16 --ff-chunk 64 --window bucket --batch 2",
        "bench_generation --depth 2 --window 16 --batch 2",
        "generate_text --prompt x --batch 2",
        "generate_text --prompt x --beam 2",
        "generate_image --checkpoint x --batch 2 --out x.png",
        "translate --checkpoint x --beam 2 --batch 1",
        "classify --checkpoint x --batch 1",
        "answer --checkpoint x --batch 1",
        "train_translation --beam 2",
        "train_recall --data passages",
        "inspect --text x",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        if let Err(error) = check(&words) {
            panic!("`{command}`: {error}");
        }
    }
}
