//! The frame around every program: errors in one line, and handling of arguments.

mod allocator;
pub(crate) mod arguments;
pub(crate) mod called;
pub(crate) mod device;
pub(crate) mod input;
pub(crate) mod interrupt;
#[cfg(feature = "cuda")]
mod kernel_cache;
#[cfg(any(feature = "cuda", test))]
mod kernel_folder;
pub(crate) mod named;
pub(crate) mod overrides;
pub(crate) mod preset;
pub(crate) mod processes;
pub(crate) mod progress;
pub(crate) mod streams;
pub(crate) mod threads;
pub(crate) mod trained_by;

use std::panic;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, FromArgMatches, Parser};
use reformer_train::parallel;
use reformer_train::screen::dashboard::KILLED;

use crate::cli::allocator::keep_freed_memory;
use crate::cli::interrupt::{ENDED_BY_CTRL_C, Stopped};
use crate::out;

/// Exit code for invalid arguments, as in programs with `clap`.
const USAGE: i32 = 2;
/// Characters of an error that are printed; names in files can be of any length.
const MOST_PRINTED: usize = 2000;
/// Prefix with which the standard library prints an error of the operating system.
const SYSTEM_ERROR: [&str; 2] = ["Os { code:", "(os error "];

/// Text of the last panic, kept by the hook so that it can be printed in one line.
static LAST_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Parses the arguments of a program, and runs it.
pub(crate) fn program<A: Parser>(run: impl FnOnce(A) -> Result<()>) -> ExitCode {
    program_with(A::command(), run)
}

/// Like [`program`], with a command that contains more than the type's own, such as a help text.
pub(crate) fn program_with<A: FromArgMatches>(
    command: Command,
    run: impl FnOnce(A) -> Result<()>,
) -> ExitCode {
    parsed_program(parse_with(command), run)
}

/// Runs a program whose arguments are parsed already.
pub(crate) fn parsed_program<A>(arguments: A, run: impl FnOnce(A) -> Result<()>) -> ExitCode {
    keep_freed_memory();
    main(|| run(arguments))
}

/// Parses the program's arguments. Invalid ones end the program, with an error of one line.
pub(crate) fn parse<T: Parser>() -> T {
    parse_with(T::command())
}

/// Parses with a command that contains more than the type's own, such as a help text.
pub(crate) fn parse_with<T: FromArgMatches>(command: Command) -> T {
    let mut command = with_called_names(prepared(command));
    let matches = command.try_get_matches_from_mut(called::arguments());
    let parsed = matches.and_then(|mut matches| T::from_arg_matches_mut(&mut matches));
    parsed.unwrap_or_else(|error| {
        if matches!(
            error.kind(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
        ) {
            print!("{}", error.render());
            let is_printed = out::finish().map_err(|error| fail(&unprinted(&error)));
            std::process::exit(is_printed.is_err().into());
        }
        let given = called::arguments().into_iter().skip(1);
        let given: Vec<String> = given
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let message = usage_error(&error, &given);
        parallel::await_turn();
        print_error(&message);
        std::process::exit(USAGE)
    })
}

/// A command as all programs parse with it.
pub(crate) fn prepared(command: Command) -> Command {
    // A negative number is an invalid value, not a flag.
    command.allow_negative_numbers(true)
}

/// A command whose version names it, and whose help names other programs, in the form in which this one was called.
fn with_called_names(command: Command) -> Command {
    let mut command = command.display_name(called::own_name());
    let text = |help: &StyledStr| called::help(&help.to_string());
    if let Some(about) = command.get_about().map(text) {
        command = command.about(about);
    }
    if let Some(help) = command.get_after_help().map(text) {
        command = command.after_help(help);
    }
    command.mut_args(|argument| match argument.get_help().map(text) {
        Some(help) => argument.help(help),
        None => argument,
    })
}

/// The error for invalid arguments, with the remedy, in one line.
fn usage_error(error: &clap::Error, given: &[String]) -> String {
    if let Some(changed) = changed_in_resumed(error, given) {
        return format!(
            "{changed} cannot be changed with --resume; only --steps and --patience can: \
             start a new run from its settings, by --preset RUN/config.json"
        );
    }
    let text = error.render().to_string();
    let is_message = |line: &&str| !line.starts_with("Usage:") && !line.starts_with("For more");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.take_while(is_message).collect();
    let message = lines.join(" ").replace(" tip: ", "; tip: ");
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    format!("{message}; see --help")
}

/// The given flags that conflict with `--resume`, if that is the error.
fn changed_in_resumed(error: &clap::Error, given: &[String]) -> Option<String> {
    let of = |kind| match error.get(kind) {
        Some(ContextValue::String(argument)) => vec![argument.clone()],
        Some(ContextValue::Strings(arguments)) => arguments.clone(),
        _ => vec![],
    };
    // Each is followed by the name of its value; those of a group are listed whether or not they were given.
    let named = [of(ContextKind::InvalidArg), of(ContextKind::PriorArg)].concat();
    let flags: Vec<&str> = named
        .iter()
        .filter_map(|flag| flag.split(' ').next())
        .collect();
    let is_given = |flag: &&str| {
        given
            .iter()
            .any(|word| word.split('=').next() == Some(*flag))
    };
    let is_resumed = flags.contains(&"--resume") && error.kind() == ErrorKind::ArgumentConflict;
    let changed = flags.iter().copied().filter(is_given);
    let changed: Vec<&str> = changed.filter(|flag| *flag != "--resume").collect();
    (is_resumed && !changed.is_empty()).then(|| changed.join(", "))
}

/// Runs a program. Prints an error, with its causes, in one line, and returns exit code 1, or 130 if it
/// [was stopped](Stopped).
///
/// With several processes, an error in one ends all; an error in all of them is printed by the first one.
///
/// A panic is printed in one line as well, unless `RUST_BACKTRACE` is set. A closed pipe on the standard
/// output is not an error; a full disk is one, reported once the program has done everything else.
pub(crate) fn main(program: impl FnOnce() -> Result<()>) -> ExitCode {
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        let main_thread = thread::current().id();
        panic::set_hook(Box::new(move |panic| {
            let text = panic.to_string().replace('\n', " ");
            if parallel::is_joined() && thread::current().id() != main_thread {
                // The main thread may wait for this one for ever, and so would the other processes.
                fail(&internal_error(&text));
            }
            *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        }));
    }
    let mut code = ExitCode::SUCCESS;
    match quietly(program) {
        // It has printed its messages already.
        Ok(Err(error)) if error.is::<Stopped>() => code = ENDED_BY_CTRL_C.into(),
        Ok(Err(error)) if !out::is_unwritten(&error) => return fail(&format!("{error:#}")),
        Ok(_) => {}
        Err(panic) if panic.contains(KILLED) => {
            print_error(
                "killed from the dashboard: --resume RUN continues from the last checkpoint",
            );
            code = ENDED_BY_CTRL_C.into();
        }
        // Some libraries panic where the system refuses a thread or a file.
        Err(panic) if SYSTEM_ERROR.iter().any(|part| panic.contains(part)) => {
            return fail(&format!("the system refuses what is needed: {panic}"));
        }
        Err(panic) => {
            return fail(&internal_error(&panic));
        }
    }
    match out::finish() {
        Ok(()) => code,
        Err(error) => fail(&unprinted(&error)),
    }
}

fn internal_error(panic: &str) -> String {
    format!("internal error (set RUST_BACKTRACE=1 for details): {panic}")
}

fn unprinted(error: &std::io::Error) -> String {
    format!("cannot write to the standard output: {error}; all files were written")
}

/// Calls a function that may panic. The error is the panic's text.
pub(crate) fn quietly<T>(function: impl FnOnce() -> T) -> Result<T, String> {
    // Unwind-safe: callers drop the captured state after a panic.
    panic::catch_unwind(panic::AssertUnwindSafe(function)).map_err(|_| {
        let mut last = LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner);
        last.take().unwrap_or_else(|| "a panic".to_owned())
    })
}

fn fail(message: &str) -> ExitCode {
    parallel::await_turn();
    print_error(message);
    parallel::abort(1);
    ExitCode::FAILURE
}

/// Prints an error in one line, without its middle part if it is very long.
fn print_error(message: &str) {
    eprintln!(
        "error: {}",
        shortened(&message.replace('\n', " "), MOST_PRINTED)
    );
}

/// The beginning and the end of a text, together at most `most` characters.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    let n_chars = text.chars().count();
    if n_chars <= most {
        return text.to_owned();
    }
    let kept = most.saturating_sub(1) / 2;
    let begin = text.chars().take(kept);
    let end = text.chars().skip(n_chars - kept);
    begin.chain(['…']).chain(end).collect()
}

/// An absolute path, so that the run can be resumed from any folder.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("`{}` is not a path", path.display()))
}

/// A path as an argument of a shell command that can be copied.
pub(crate) fn shell_argument(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn shell_arguments_are_quoted_where_needed() {
        let quoted = |path: &str| shell_argument(Path::new(path));
        assert_eq!(quoted("runs/text-1"), "runs/text-1");
        assert_eq!(quoted("my runs/it's"), r"'my runs/it'\''s'");
    }

    #[test]
    fn panic_becomes_an_error() {
        assert_eq!(quietly(|| 7), Ok(7));
        assert!(quietly(|| panic!("no driver")).is_err());
    }

    #[test]
    fn long_texts_lose_their_middle() {
        assert_eq!(shortened("äbc", 3), "äbc");
        assert_eq!(shortened("äbcdefg", 5), "äb…fg");
        assert_eq!(shortened(&"é".repeat(1 << 16), 41).chars().count(), 41);
    }

    #[derive(Debug, Parser)]
    struct Arguments {
        #[arg(long, conflicts_with = "length")]
        resume: Option<String>,
        #[arg(long)]
        length: Option<usize>,
    }

    #[test]
    fn usage_errors_are_one_line() {
        let message = |arguments: &[&str]| {
            let arguments = [&["program"], arguments].concat();
            let given: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            usage_error(&Arguments::try_parse_from(arguments).unwrap_err(), &given)
        };
        let negative = message(&["--length=-1"]);
        assert!(
            negative.starts_with("invalid value '-1' for '--length"),
            "{negative}"
        );
        let changed = message(&["--resume", "runs/x", "--length", "7"]);
        assert!(
            changed.starts_with("--length cannot be changed"),
            "{changed}"
        );
        assert!(changed.contains("--preset RUN/config.json") && !changed.contains('\n'));
        let misspelled = message(&["--lenght", "7"]);
        assert!(
            misspelled.contains("'--lenght' found; tip: ") && misspelled.contains("'--length'"),
            "{misspelled}"
        );
        for text in [negative, misspelled] {
            assert!(
                !text.contains('\n') && text.ends_with("; see --help"),
                "{text}"
            );
        }
        Arguments::command().debug_assert();
    }
}
