//! What the tests of programs share.

#[allow(dead_code)] // Not every file of tests uses it.
pub(crate) mod hugging_face;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The program that trains language models.
#[allow(dead_code)] // Not every file of tests uses it.
pub(crate) const TRAIN: &str = env!("CARGO_BIN_EXE_train_text");

/// A model that trains in a moment.
#[allow(dead_code)] // Not every file of tests uses it.
pub(crate) const MODEL: [&str; 6] = ["--layers", "2", "--d-model", "16", "--n-heads", "2"];

/// A training, except for its model, that takes a moment.
#[allow(dead_code)] // Not every file of tests uses it.
pub(crate) const BRIEF: [&str; 8] = [
    "--length",
    "48",
    "--batch-size",
    "2",
    "--eval-windows",
    "2",
    "--sample-tokens",
    "5",
];

/// Trains a small language model.
#[allow(dead_code)] // Not every file of tests uses it.
pub(crate) fn train(folder: &Path, arguments: &[&str]) -> Output {
    run(TRAIN, folder, &[&MODEL[..], &BRIEF, arguments].concat())
}

/// Every file below a folder with its content.
#[allow(dead_code)] // Not every file of tests uses it.
pub(crate) fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            let bytes = fs::read(&path).expect("a file");
            files.push((path.display().to_string(), bytes));
        }
    }
    files.sort();
    files
}

/// Runs a program in a folder, to its end.
pub(crate) fn run(program: &str, folder: &Path, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env_remove("RUST_BACKTRACE")
        .output()
        .expect("the program is built")
}

/// Runs a program in a folder, to its end, with arguments that are separated by spaces.
#[allow(dead_code)] // Not every file of tests uses it.
pub(crate) fn call(program: &str, folder: &Path, arguments: &str) -> Output {
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    run(program, folder, &arguments)
}

/// Runs a program in a folder, to its end, with something to read.
#[allow(dead_code)] // Not every file of tests uses it.
pub(crate) fn run_with(program: &str, folder: &Path, arguments: &str, input: &str) -> Output {
    let mut child = Command::new(program)
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program is built");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

/// What a program printed that succeeded.
pub(crate) fn printed(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    text
}

/// Asserts that a program failed with one line that has all these parts.
#[allow(dead_code)] // Not every file of tests uses it.
#[track_caller]
pub(crate) fn refused(output: &Output, parts: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(message.starts_with("error: "), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing: {message}");
    }
}
