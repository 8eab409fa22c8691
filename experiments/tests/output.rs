//! What programs write, wherever it goes: to readers that leave, full disks, pipes, links and terminals.

#![cfg(all(target_os = "linux", feature = "flex"))]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use common::{printed, refused, run};
use reformer_train::run::Checkpoints;

const TEXT: &str = env!("CARGO_BIN_EXE_train_text");
const CLASSIFIER: &str = env!("CARGO_BIN_EXE_train_classifier");
const QA: &str = env!("CARGO_BIN_EXE_train_qa");
const EVALUATE: &str = env!("CARGO_BIN_EXE_evaluate");
const GENERATE: &str = env!("CARGO_BIN_EXE_generate_text");
const CLASSIFY: &str = env!("CARGO_BIN_EXE_classify");
const INSPECT: &str = env!("CARGO_BIN_EXE_inspect");

/// Models that train in a moment.
const SMALL: &str =
    "--layers 1 --d-model 16 --n-heads 2 --length 48 --batch-size 2 --eval-windows 2";
/// Longer than any of this takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn command(program: &str, folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .env_remove("RUST_BACKTRACE");
    command
}

fn call(program: &str, folder: &Path, arguments: &str) -> Output {
    command(program, folder, arguments).output().unwrap()
}

/// A folder with finished runs: `runs/text` on the sample, and `runs/classes` on classes whose names are
/// not fit for a terminal.
fn runs() -> &'static Path {
    static FOLDER: OnceLock<(tempfile::TempDir, ())> = OnceLock::new();
    let (folder, ()) = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let text = format!("{SMALL} --attention lsh --steps 2 --name text --sample-tokens 5");
        printed(&call(TEXT, path, &text));
        let long = "long".repeat(64);
        let rows: String = (0..30)
            .map(|i| format!("text {i},\x1b]0;title\x07{}\n", i % 2))
            .chain((0..30).map(|i| format!("word {i},{long}\n")))
            .collect();
        fs::write(path.join("classes.csv"), format!("text,label\n{rows}")).unwrap();
        let classes = format!("{SMALL} --data classes.csv --steps 2 --name classes");
        let output = printed(&call(CLASSIFIER, path, &classes));
        assert_shown(&output);
        (folder, ())
    });
    folder.path()
}

/// Asserts that a terminal would show a text as it is.
#[track_caller]
fn assert_shown(text: &str) {
    let is_hidden = |c: char| c.is_control() && c != '\n' && c != '\t';
    assert!(!text.contains(is_hidden), "{text:?}");
    let longest = text.lines().map(|line| line.chars().count()).max();
    assert!(longest < Some(3000), "{longest:?}");
}

/// What the shell opened is written into, not replaced.
#[test]
fn open_files_keep_what_they_hold() {
    let folder = runs();
    let open = || {
        let file = File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"));
        file.unwrap()
    };
    fs::write(folder.join("log"), "before\n").unwrap();
    for output in ["/dev/stdout", "/dev/fd/1"] {
        let arguments = format!("--checkpoint runs/text --json {output}");
        let mut evaluate = command(EVALUATE, folder, &arguments);
        let status = evaluate.stdout(open()).stderr(Stdio::null()).status();
        assert!(status.unwrap().success(), "{output}");
    }
    let arguments = "--checkpoint runs/text --json /dev/stderr";
    let mut evaluate = command(EVALUATE, folder, arguments);
    let status = evaluate.stdout(Stdio::null()).stderr(open()).status();
    assert!(status.unwrap().success());
    let log = fs::read_to_string(folder.join("log")).unwrap();
    assert!(log.starts_with("before\n"), "{log}");
    assert_eq!(log.matches("n_targets").count(), 3, "{log}");
}

/// The only line that a program told, after its exit code.
fn told(output: &Output) -> (Option<i32>, String) {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), told)
}

/// What a program does whose reader leaves after so many lines.
fn with_leaving_reader(mut command: Command, n_lines: usize) -> Output {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    if n_lines > 0 {
        let lines = BufReader::new(stdout).lines().take(n_lines);
        assert_eq!(lines.count(), n_lines);
    } else {
        drop(stdout);
    }
    child.wait_with_output().unwrap()
}

#[test]
fn reader_that_leaves_ends_nothing_that_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let few = format!("{SMALL} --steps 6 --steps-per-epoch 2 --progress plain");
    let trainings = [
        (TEXT, "--sample-tokens 200", "sample.txt", 0),
        (TEXT, "--sample-tokens 200", "sample.txt", 1),
        (QA, "--length 400", "answers.json", 2),
    ];
    for (number, (program, more, result, n_lines)) in trainings.into_iter().enumerate() {
        let arguments = format!("{few} {more} --name {number}");
        let arguments = match program == QA {
            true => arguments.replacen("--length 48", "", 1),
            false => arguments,
        };
        let output = with_leaving_reader(command(program, path, &arguments), n_lines);
        assert_eq!(told(&output), (Some(0), String::new()));
        for name in ["model.mpk", "loss.svg", "report.html", result] {
            let file = path.join("runs").join(number.to_string()).join(name);
            assert!(fs::metadata(file).unwrap().len() > 0, "{number}: {name}");
        }
    }
    let json = path.join("scores.json");
    let evaluate = format!("--checkpoint runs/text --json {}", json.display());
    let output = with_leaving_reader(command(EVALUATE, runs(), &evaluate), 0);
    assert_eq!(told(&output), (Some(0), String::new()));
    assert!(json.is_file());
    // What does nothing but print ends with its reader, and not after a million tokens.
    let endless = "--checkpoint runs/text --prompt A --temperature 1 --tokens 1000000";
    let output = with_leaving_reader(command(GENERATE, runs(), endless), 1);
    assert_eq!(told(&output), (Some(0), String::new()));
    let output = with_leaving_reader(command(TEXT, path, "--help"), 0);
    assert_eq!(told(&output), (Some(0), String::new()));
}

#[test]
fn full_standard_output_is_told_in_a_line_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let refusal = |mut command: Command| {
        let output = command.stdout(full()).output().unwrap();
        refused(
            &output,
            &["cannot write to the standard output", "No space left"],
        );
    };
    let text = format!("{SMALL} --steps 2 --name full --sample-tokens 20");
    refusal(command(TEXT, path, &text));
    for name in ["model.mpk", "sample.txt"] {
        assert!(path.join("runs/full").join(name).is_file(), "{name}");
    }
    let json = path.join("scores.json");
    let evaluate = format!("--checkpoint runs/text --json {}", json.display());
    refusal(command(EVALUATE, runs(), &evaluate));
    assert!(json.is_file());
    refusal(command(
        GENERATE,
        runs(),
        "--checkpoint runs/text --prompt A --tokens 50",
    ));
    refusal(command(
        CLASSIFY,
        runs(),
        "--checkpoint runs/classes --text A",
    ));
    // A file that cannot be written is named.
    let output = call(EVALUATE, runs(), "--checkpoint runs/text --json /dev/full");
    refused(&output, &["`/dev/full` cannot be written", "No space left"]);
    let output = call(
        CLASSIFY,
        runs(),
        "--checkpoint runs/classes --text A --output /dev/full",
    );
    refused(&output, &["`/dev/full` cannot be written", "No space left"]);
}

#[test]
fn signals_are_heard_whatever_became_of_the_standard_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let endless = format!(
        "{SMALL} --steps 1000000 --steps-per-epoch 1000000 --checkpoint-every 3 --sample-tokens 0"
    );
    let cases = [
        ("INT", true),
        ("TERM", false),
        ("HUP", true),
        ("INT", false),
    ];
    for (number, (signal, is_full)) in cases.into_iter().enumerate() {
        let arguments = format!("{endless} --name {number}");
        let mut child = command(TEXT, path, &arguments);
        let child = match is_full {
            true => child.stderr(File::options().write(true).open("/dev/full").unwrap()),
            false => child.stderr(Stdio::piped()),
        };
        let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
        // Nobody reads either of them.
        drop((child.stdout.take(), child.stderr.take()));
        let checkpoints = Checkpoints::of_run(&path.join("runs").join(number.to_string()));
        let started = Instant::now();
        while checkpoints.complete().is_empty() {
            assert!(started.elapsed() < PATIENCE, "it does not begin");
            thread::sleep(Duration::from_millis(2));
        }
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < PATIENCE, "it is deaf to {signal}");
            thread::sleep(Duration::from_millis(2));
        };
        // To a full standard error nothing can be told, and nothing has to be.
        assert_eq!(status.code(), Some(130), "{signal}");
        let run = path.join("runs").join(number.to_string());
        assert!(!run.join("model.mpk").exists() && !checkpoints.complete().is_empty());
    }
}

#[test]
fn files_keep_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let evaluate = |json: &Path| {
        let arguments = format!("--checkpoint runs/text --json {}", json.display());
        printed(&call(EVALUATE, runs(), &arguments));
    };
    fs::write(at("secret.json"), "old").unwrap();
    fs::set_permissions(at("secret.json"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("secret.json", at("link.json")).unwrap();
    evaluate(&at("link.json"));
    assert!(at("link.json").is_symlink());
    let mode = fs::metadata(at("secret.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let written = fs::read_to_string(at("secret.json")).unwrap();
    assert!(written.contains("\"n_targets\""), "{written}");

    let made = Command::new("mkfifo").arg(at("pipe")).status().unwrap();
    assert!(made.success());
    let pipe = at("pipe");
    let reader = thread::spawn(move || fs::read_to_string(pipe).unwrap());
    evaluate(&at("pipe"));
    assert_eq!(reader.join().unwrap(), written);
    assert!(fs::metadata(at("pipe")).unwrap().file_type().is_fifo());

    fs::write(
        at("text.txt"),
        "To be, or not to be, that is the question. ",
    )
    .unwrap();
    let [pipe, page] = [at("pipe"), at("page.html")];
    let reader = thread::spawn(move || fs::read_to_string(pipe).unwrap());
    let inspect = format!(
        "--checkpoint runs/text --text {} --html {} --json {}",
        at("text.txt").display(),
        page.display(),
        at("pipe").display()
    );
    printed(&call(INSPECT, runs(), &inspect));
    assert!(reader.join().unwrap().contains("\"layers\""));
}

#[test]
fn names_from_files_are_only_text() {
    let output = call(EVALUATE, runs(), "--checkpoint runs/classes");
    let table = printed(&output);
    assert!(table.contains("\\u{1b}]0;title\\u{7}0"), "{table}");
    assert_shown(&table);
    let strange = "\x1b[2Jno\u{9b}such\x07file";
    let missing = run(EVALUATE, runs(), &["--checkpoint", strange]);
    let (code, message) = told(&missing);
    assert_eq!(code, Some(1));
    assert!(message.contains("\\u{1b}[2Jno"), "{message}");
    assert_shown(&message);
    fs::write(runs().join("other.csv"), "text,label\nx,\x1bunknown\n").unwrap();
    let other = call(
        EVALUATE,
        runs(),
        "--checkpoint runs/classes --data other.csv",
    );
    let (code, message) = told(&other);
    assert_eq!((code, message.lines().count()), (Some(1), 1));
    assert_shown(&message);
}

#[test]
fn threads_that_the_system_refuses_are_told_in_a_line() {
    // Stacks of so many threads do not fit into 4 GB of addresses.
    let script = format!("ulimit -v 4000000; exec {EVALUATE} --checkpoint runs/text");
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(runs())
        .env("RAYON_NUM_THREADS", "4000")
        .env_remove("RUST_BACKTRACE")
        .output();
    refused(
        &output.unwrap(),
        &["more threads than the system allows", "RAYON_NUM_THREADS"],
    );
}

#[test]
fn data_may_come_through_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let rows: String = (0..60).map(|i| format!("text {i},{}\n", i % 3)).collect();
    fs::write(
        folder.path().join("data.csv"),
        format!("text,label\n{rows}"),
    )
    .unwrap();
    let script = format!(
        "exec {CLASSIFIER} {SMALL} --data <(cat data.csv) --steps 2 --name piped --progress plain"
    );
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder.path())
        .output();
    let output = printed(&output.expect("bash is there"));
    assert!(output.contains("Saved 6"), "{output}");
    let kept = fs::read_to_string(folder.path().join("runs/piped.data-1")).unwrap();
    assert_eq!(kept, format!("text,label\n{rows}"));
    printed(&call(EVALUATE, folder.path(), "--checkpoint runs/piped"));
    let script = format!("exec {EVALUATE} --checkpoint runs/piped --data <(cat data.csv)");
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder.path())
        .output();
    assert!(printed(&output.unwrap()).contains("60 labels"));
}
