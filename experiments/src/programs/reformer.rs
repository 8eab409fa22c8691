//! All programs as one: `reformer train text`, `reformer generate text`, `reformer study finding`.

use std::env;
use std::ffi::OsString;
use std::fmt::Write;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Arg;
use strsim::normalized_damerau_levenshtein;

use super::{studies, *};
use crate::cli;
use crate::cli::called;

/// All programs, grouped by purpose.
static PROGRAMS: [(&str, &[Program]); 4] = [
    (
        "Training",
        programs! {
            "train text", "train_text", "the next byte of a text", train_text::main, train_text::Arguments;
            "train images", "train_images", "the next colour of an image", train_images::main, train_images::Arguments;
            "train translation", "train_translation", "sentences in another language", train_translation::main, train_translation::Arguments;
            "train masked", "train_masked", "hidden bytes of a text", train_masked::main, train_masked::Arguments;
            "train classifier", "train_classifier", "classes of texts", train_classifier::main, train_classifier::Arguments;
            "train qa", "train_qa", "answers to questions, as spans of a text", train_qa::main, train_qa::Arguments;
            "train duplication", "train_duplication", "the paper's synthetic task", train_duplication::main, train_duplication::Arguments;
            "train recall", "train_recall", "retrieval of what was read before", train_recall::main, train_recall::Arguments;
        },
    ),
    (
        "Trained models",
        programs! {
            "generate text", "generate_text", "continue texts", generate_text::main, generate_text::Arguments;
            "generate image", "generate_image", "complete images", generate_image::main, generate_image::Arguments;
            "translate", "translate", "translate sentences", translate::main, translate::Arguments;
            "predict classes", "classify", "classify texts", classify::main, classify::Arguments;
            "predict answers", "answer", "answer questions about texts", answer::main, answer::Arguments;
            "evaluate", "evaluate", "measure a model on held-out or other data", evaluate::main, evaluate::Arguments;
            "compare", "compare", "runs side by side: curves, best results, settings that differ", compare::main, compare::Arguments;
            "convert", "convert", "write a language model as a Hugging Face folder", convert::main, convert::Arguments;
            "inspect", "inspect", "show buckets and attention of a text", inspect::main, inspect::Arguments;
        },
    ),
    (
        "Measurements",
        programs! {
            "bench step", "bench_step", "time and memory of a training step, and memory over depth", bench_step::main, bench_step::Arguments;
            "bench generation", "bench_generation", "time of a token and memory of the cache", bench_generation::main, bench_generation::Arguments;
            "bench plot", "plot_steps", "plot results of `bench step`", plot_steps::main, plot_steps::Arguments;
        },
    ),
    (
        "Tables and figures of the paper, and questions beyond it",
        studies::STUDIES,
    ),
];

/// Words that called a program of earlier versions, and the words that do what it did.
const FORMER: [(&str, &str); 3] = [
    ("bench_memory", MEMORY_OVER_DEPTH),
    ("bench memory", MEMORY_OVER_DEPTH),
    ("bench bench_memory", MEMORY_OVER_DEPTH),
];
const MEMORY_OVER_DEPTH: &str = "bench step --sweep-layers 4,8,16,32";

/// What `reformer` does itself, with the help of each.
const OWN: [(&str, &str); 3] = [
    (
        "help",
        "List all programs, those of a group, or the options of one\n\nUsage: reformer help [GROUP | PROGRAM]\n",
    ),
    (
        "completions",
        "Print shell code that completes programs and options\n\nUsage: reformer completions bash|zsh|fish\n\n\
         Examples:\n  source <(reformer completions bash)\n  reformer completions fish | source\n",
    ),
    (
        "complete",
        "Print what can come after some words, for the code of `reformer completions`\n\n\
         Usage: reformer complete [WORD]...\n",
    ),
];
const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];
/// Similarity of two words from which one is taken for a misspelling of the other.
const ALIKE: f64 = 0.7;

/// Shell code that registers completions, which are computed on demand.
const BASH: &str = "\
_reformer() {
    local word=${COMP_WORDS[COMP_CWORD]}
    COMPREPLY=($(compgen -W \"$(reformer complete \"${COMP_WORDS[@]:1:COMP_CWORD-1}\")\" -- \"$word\"))
}
complete -o default -F _reformer reformer
";
const ZSH: &str = "autoload -U +X bashcompinit && bashcompinit\n";
const FISH: &str = "complete -c reformer -a '(reformer complete (commandline -opc)[2..-1])'\n";

pub fn main() -> ExitCode {
    let given: Vec<OsString> = env::args_os().skip(1).collect();
    let words: Vec<_> = given.iter().map(|word| word.to_string_lossy()).collect();
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match words[..] {
        [] => print_and_exit(&help("")),
        ["help" | "--help" | "-h", ref words @ ..] => help_with(words),
        [flag @ ("--version" | "-V"), ref rest @ ..] => cli::main(|| version(flag, rest)),
        ["completions", "--help" | "-h"] => help_with(&words[..1]),
        ["completions", ref shell @ ..] => cli::main(|| completions(shell)),
        ["complete", ref before @ ..] => cli::main(|| complete(before)),
        _ => match called_by(&words) {
            Some((program, n_words)) => run(program, given[n_words..].to_vec()),
            None => match (words[0], words.get(1)) {
                (group, None | Some(&("--help" | "-h"))) if is_group(group) => {
                    print_and_exit(&help(group))
                }
                _ => cli::main(|| unknown(&words)),
            },
        },
    }
}

/// Runs a program with these arguments.
fn run(program: &Program, arguments: Vec<OsString>) -> ExitCode {
    // A study has no binary of its own name that examples could call.
    let with_binary = all().filter(|program| !program.words.starts_with("study "));
    let with_binary = with_binary.map(|program| (program.name, program.words));
    called::as_part(program.words, with_binary.collect(), arguments);
    (program.main)()
}

/// The help of the program that these words call, or a list of all programs or of those of a group.
fn help_with(words: &[&str]) -> ExitCode {
    if let Some((program, _)) = called_by(words) {
        return run(program, vec!["--help".into()]);
    }
    if let [word] = words
        && let Some((_, text)) = OWN.iter().find(|(own, _)| own == word)
    {
        return print_and_exit(text);
    }
    match words {
        [] | ["--help" | "-h"] => print_and_exit(&help("")),
        [group] if is_group(group) => print_and_exit(&help(group)),
        _ => cli::main(|| unknown(words)),
    }
}

/// Prints the version.
fn version(flag: &str, rest: &[&str]) -> Result<()> {
    if let [word, ..] = rest {
        bail!("`{flag}` comes alone, but `{word}` is after it: leave it out");
    }
    println!("reformer {}", env!("CARGO_PKG_VERSION"));
    Ok(())
}

fn all() -> impl Iterator<Item = &'static Program> + Clone {
    PROGRAMS.iter().flat_map(|(_, programs)| programs.iter())
}

/// The program that an invocation begins with, and the number of words that call it: its words, its name, or its
/// group and that name (`study table1_complexity`).
fn called_by(given: &[&str]) -> Option<(&'static Program, usize)> {
    let called = |program: &'static Program| {
        let words: Vec<&str> = program.words.split(' ').collect();
        let by_group = [words[0], program.name];
        let ways = [&words[..], &[program.name], &by_group];
        let way = ways.into_iter().find(|way| given.starts_with(way))?;
        Some((program, way.len()))
    };
    all().find_map(called)
}

/// Checks a command without running it: its first words call a program, and the others are arguments of it.
///
/// # Errors
/// An unknown program, or arguments that it refuses.
pub fn check(words: &[&str]) -> Result<()> {
    let Some((program, n_words)) = called_by(words) else {
        return unknown(words);
    };
    let given = [&[program.name], &words[n_words..]].concat();
    cli::prepared((program.flags)()).try_get_matches_from(given)?;
    Ok(())
}

/// The first word of a program that has two.
fn group_of(program: &Program) -> Option<&'static str> {
    program.words.split_once(' ').map(|(group, _)| group)
}

/// First words that programs share.
fn groups() -> impl Iterator<Item = &'static str> + Clone {
    all().filter_map(group_of)
}

/// Whether programs share this first word.
fn is_group(word: &str) -> bool {
    groups().any(|group| group == word)
}

/// The second words of the programs of a group.
fn members(group: &str) -> Vec<&'static str> {
    let words = all().filter_map(|program| program.words.split_once(' '));
    let of_group = words.filter(|(first, _)| *first == group);
    of_group.map(|(_, second)| second).collect()
}

/// Prints a text, as a program.
fn print_and_exit(text: &str) -> ExitCode {
    cli::main(|| {
        print!("{text}");
        Ok(())
    })
}

/// All programs whose words begin with these.
fn help(prefix: &str) -> String {
    let mut text = "Train, use and measure Reformers: models of very long sequences\n\n\
                    Usage: reformer PROGRAM [OPTIONS]\n"
        .to_owned();
    for (title, programs) in &PROGRAMS {
        let programs: Vec<_> = programs
            .iter()
            .filter(|program| program.words.starts_with(prefix))
            .collect();
        if !programs.is_empty() {
            let _ = writeln!(text, "\n{title}:");
        }
        for Program { words, about, .. } in programs {
            let _ = writeln!(text, "  {words:<22}{about}");
        }
    }
    text + "\nExamples:\n  reformer train text --data book.txt --name my-first\n  \
            reformer generate text --checkpoint runs/my-first --prompt 'Once'\n  \
            source <(reformer completions bash)\n\n\
            `reformer PROGRAM --help` says more of each.\n"
}

/// The error for words that call no program, with the nearest that do.
fn unknown(words: &[&str]) -> Result<()> {
    let flag = words.iter().position(|word| word.starts_with('-'));
    let words = &words[..flag.unwrap_or(words.len()).max(1)];
    let given = words[..words.len().min(2)].join(" ");
    let is_former = |(former, _): &&(&str, &str)| [given.as_str(), words[0]].contains(former);
    if let Some((_, now)) = FORMER.iter().find(is_former) {
        bail!("`{given}` is not a program any more: use `reformer {now}`");
    }
    let alone = all().filter(|program| group_of(program).is_none());
    let names = alone.map(|program| program.words).chain(groups());
    let names = names.chain(all().map(|program| program.name));
    match (nearest(words[0], names), words.get(1)) {
        (Some(group), None) if group == words[0] && is_group(group) => bail!(
            "`{group}` is more than one program: add one of {}",
            members(group).join(", ")
        ),
        (Some(group), Some(second)) if is_group(group) => unknown_in(group, second, &given),
        (Some(name), _) => {
            let program = all().find(|program| program.name == name);
            not_a_program(&given, program.map_or(name, |program| program.words))
        }
        (None, _) => bail!("`{given}` is not a program: `reformer help` lists all"),
    }
}

/// The error for a second word that no program of a group has.
fn unknown_in(group: &str, second: &str, given: &str) -> Result<()> {
    // All names of a group begin alike, which makes none of them likely.
    let own = |name| {
        let rest = str::strip_prefix(name, group).and_then(|rest| rest.strip_prefix('_'));
        rest.unwrap_or(name)
    };
    let of_group = || all().filter(|program| group_of(program) == Some(group));
    let names = of_group().map(|program| own(program.name));
    let called = |name: &str| {
        let calls = |program: &&Program| {
            own(program.name) == name || program.words.split(' ').nth(1) == Some(name)
        };
        of_group().find(calls)
    };
    match nearest(own(second), members(group).into_iter().chain(names)).and_then(called) {
        Some(program) => not_a_program(given, program.words),
        None => bail!(
            "`{given}` is not a program: after `reformer {group}` comes one of {}",
            members(group).join(", ")
        ),
    }
}

/// The one of some words that another one is probably a misspelling of, begins, or begins with; of several the first.
fn nearest<'a>(given: &str, words: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let rated = words
        .clone()
        .map(|word| (normalized_damerau_levenshtein(word, given), word));
    let rated = rated.reduce(|first, other| match other.0 > first.0 {
        true => other,
        false => first,
    });
    let misspelt = rated.filter(|(likeness, _)| *likeness >= ALIKE);
    let begun = |word: &&str| given.len() > 1 && word.starts_with(given);
    misspelt
        .map(|(_, word)| word)
        .or_else(|| words.clone().find(begun))
        .or_else(|| words.clone().find(|word| given.starts_with(*word)))
}

fn not_a_program(given: &str, nearest: &str) -> Result<()> {
    bail!(
        "`{given}` is not a program: did you mean `reformer {nearest}`? `reformer help` lists all"
    )
}

fn completions(shell: &[&str]) -> Result<()> {
    match shell {
        ["bash"] => print!("{BASH}"),
        ["zsh"] => print!("{ZSH}{BASH}"),
        ["fish"] => print!("{FISH}"),
        [] => bail!("`completions` needs the name of a shell: bash, zsh or fish"),
        _ => bail!(
            "there are no completions for `{}`: name bash, zsh or fish",
            shell.join(" ")
        ),
    }
    Ok(())
}

/// Prints the possible completions of some words: further words, or flags.
fn complete(before: &[&str]) -> Result<()> {
    let next = match before {
        [] => format!("{} help completions", next_words(&[]).join(" ")),
        ["completions"] => SHELLS.join(" "),
        ["help", words @ ..] => next_words(words).join(" "),
        words => match called_by(words) {
            Some((program, _)) => flags_of(program).join(" "),
            None => next_words(words).join(" "),
        },
    };
    println!("{next}");
    Ok(())
}

/// The words of programs that can come after these.
fn next_words(before: &[&str]) -> Vec<&'static str> {
    let next = all().filter_map(|program| {
        let mut words = program.words.split(' ');
        let is_next = before.iter().all(|word| words.next() == Some(word));
        words.next().filter(|_| is_next)
    });
    let mut next: Vec<&str> = next.collect();
    next.dedup();
    next
}

/// The flags of a program.
fn flags_of(program: &Program) -> Vec<String> {
    let mut command = cli::prepared((program.flags)());
    command.build();
    let shown = command.get_arguments().filter(|flag| !flag.is_hide_set());
    let flags = shown.filter_map(Arg::get_long);
    flags.map(|flag| format!("--{flag}")).collect()
}
