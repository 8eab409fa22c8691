//! What programs refuse: settings, numbers, folders and files, each in a line that says what to do.

mod common;

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use common::{BRIEF, MODEL, TRAIN, call, contents, printed, refused, run, train};
use serde_json::{Value, json};

const GENERATE: &str = env!("CARGO_BIN_EXE_generate_text");
const EVALUATE: &str = env!("CARGO_BIN_EXE_evaluate");
const INSPECT: &str = env!("CARGO_BIN_EXE_inspect");
const CLASSIFY: &str = env!("CARGO_BIN_EXE_classify");
const ANSWER: &str = env!("CARGO_BIN_EXE_answer");
const TRANSLATE: &str = env!("CARGO_BIN_EXE_translate");
const GENERATE_IMAGE: &str = env!("CARGO_BIN_EXE_generate_image");
const PLOT_STEPS: &str = env!("CARGO_BIN_EXE_plot_steps");
const RECALL: &str = env!("CARGO_BIN_EXE_train_recall");
const DUPLICATION: &str = env!("CARGO_BIN_EXE_train_duplication");
const REFORMER: &str = env!("CARGO_BIN_EXE_reformer");

/// A folder with a finished run, `runs/text`, which tests leave as it is.
fn trained() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        printed(&train(folder.path(), &["--steps", "1", "--name", "text"]));
        folder
    });
    folder.path()
}

#[test]
fn bad_settings_are_named_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("empty.txt"), "").unwrap();
    fs::write(folder.path().join("short.txt"), "a short text").unwrap();
    let cases: [(&[&str], &[&str]); 15] = [
        (&["--eval-windows", "0"], &["`eval_windows` is 0"]),
        (
            &["--set", "steps=3", "--set", "steps=4"],
            &["`--set steps=4`: `steps` is given twice: remove one"],
        ),
        (
            &["--set", "batch_sizes=3"],
            &["no setting `batch_sizes`: did you mean `batch_size`?"],
        ),
        (
            &["--set", r#"data={"Duplication":{"n_symbols":9}}"#],
            &["those of `train_duplication`, a language model"],
        ),
        (&["--data", "missing.txt"], &["missing.txt", "no file"]),
        (&["--data", "empty.txt"], &["empty.txt", "0 bytes"]),
        (
            &["--data", "short.txt"],
            &["short.txt", "window of length 48"],
        ),
        (&["--data", "."], &["number of files is 2", "at least 3"]),
        (&["--n-heads", "3"], &["`n_heads` is 3", "`d_model` (16)"]),
        (&["--n-buckets", "7"], &["`n_buckets` is [7]", "even"]),
        (&["--chunk-length", "0"], &["chunk_length` is 0"]),
        (&["--steps", "0"], &["`steps` is 0"]),
        (&["--batch-size", "0"], &["`batch_size` is 0"]),
        (&["--learning-rate", "0"], &["`schedule.rate` is 0"]),
        (&["--name", "../x"], &["`../x` is not a name"]),
    ];
    for (arguments, parts) in cases {
        // The later of two equal flags would be an error of its own.
        let arguments: Vec<&str> = replace(&[&MODEL[..], &BRIEF].concat(), arguments);
        refused(&run(TRAIN, folder.path(), &arguments), parts);
    }
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["empty.txt", "short.txt"]);
}

#[test]
fn lengths_that_a_task_cannot_have_are_told_by_their_flag() {
    let folder = tempfile::tempdir().unwrap();
    for (program, arguments, parts) in [
        (
            RECALL,
            "--task needles --length 128",
            ["`--length` is 128", "4 needles need at least 256: raise it"],
        ),
        (
            RECALL,
            "--task passages --length 128 --set data.ReturningPassages.shortest=100",
            [
                "`--length` is 128",
                "none of 64 sequences to validate on has a target within so many tokens: raise it, validate on more of \
                 them (--eval-windows, ",
            ],
        ),
        (
            RECALL,
            "--length 7",
            ["`--length` is 7", "even and at least 4: choose 1024"],
        ),
        (
            DUPLICATION,
            "--length 101",
            ["`--length` is 101", "even and at least 4: choose"],
        ),
    ] {
        refused(&call(program, folder.path(), arguments), &parts);
    }
    assert_eq!(contents(folder.path()), []);
}

#[test]
fn tasks_of_recall_have_lengths_of_their_own_and_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let small = "--d-model 16 --n-heads 2 --batch-size 1 --eval-windows 2 --steps 1 --name";
    let help = printed(&call(RECALL, folder.path(), "--help"));
    for (task, length, told) in [
        ("pairs", 128, "sequences have 128 tokens"),
        ("needles", 256, "needles 256"),
        ("passages", 1024, "passages 1024"),
    ] {
        assert!(help.contains(told), "{help}");
        for flag in ["task", "data"] {
            let arguments = format!("--{flag} {task} {small} {flag}-{task}");
            let text = printed(&call(RECALL, folder.path(), &arguments));
            let said = format!("1 steps of 1 sequences of {length} tokens");
            assert!(text.contains(&said), "{text}");
        }
    }
    // A model that training starts from keeps its buckets, and the task its length.
    let buckets = |run: &str| {
        let config = folder.path().join("runs").join(run).join("config.json");
        let config: Value = serde_json::from_slice(&fs::read(config).unwrap()).unwrap();
        config["model"]["reformer"]["lsh"]["n_buckets"].clone()
    };
    assert_eq!(buckets("task-needles"), "Auto");
    assert_eq!(buckets("task-pairs"), json!({"Count": 8}));
    let arguments = format!("--task needles --init-from runs/task-pairs {small} started");
    let text = printed(&call(RECALL, folder.path(), &arguments));
    assert!(text.contains("1 sequences of 256 tokens"), "{text}");
    assert_eq!(buckets("started"), buckets("task-pairs"));
    let before = contents(folder.path());
    let refuse = |arguments: &str, parts: &[&str]| {
        refused(&call(RECALL, folder.path(), arguments), parts);
    };
    refuse(
        "--data book.txt",
        &[
            "`--data` is `book.txt`, but this program makes its own sequences",
            "`--task` (pairs, passages, passages-backwards, needles)",
            "`--task needles --set data.Needles.path=book.txt`",
        ],
    );
    let spaced = run(RECALL, folder.path(), &["--data", "a book.txt"]);
    refused(&spaced, &["data.Needles.path='a book.txt'`"]);
    refuse(
        "--data needles --task needles",
        &["`--data` is an earlier name of `--task`, which is given too: leave it out"],
    );
    refuse(
        "--task needles --set data.Needles.n_needles=0",
        &["n_needles is 0, and must be 1 to 676: choose 1 or more"],
    );
    assert_eq!(contents(folder.path()), before);
}

/// The defaults, but for the flag in `arguments`.
fn replace<'a>(defaults: &[&'a str], arguments: &[&'a str]) -> Vec<&'a str> {
    let others = defaults.chunks(2).filter(|pair| pair[0] != arguments[0]);
    others.flatten().chain(arguments).copied().collect()
}

#[test]
fn folder_without_a_run_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let resumed = run(TRAIN, folder.path(), &["--resume", "runs/none"]);
    refused(
        &resumed,
        &["`runs/none` is not the folder of a run, since there is no such folder"],
    );
    let generated = run(
        GENERATE,
        folder.path(),
        &["--checkpoint", "runs/none", "--prompt", "A"],
    );
    refused(&generated, &["`runs/none` is not the folder of a run"]);

    // Neither a new run nor one to resume; what the messages advise works.
    let place = folder.path().join("runs/x");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("lock"), "").unwrap();
    let resume = || run(TRAIN, folder.path(), &["--resume", "runs/x"]);
    let begin = || {
        train(
            folder.path(),
            &["--name", "x", "--steps", "1", "--steps-per-epoch", "1"],
        )
    };
    refused(&resume(), &["it has no config.json", "move it away"]);
    refused(&begin(), &["`runs/x` exists already", "move it away"]);
    fs::rename(&place, folder.path().join("runs/away")).unwrap();
    // An empty folder is used.
    fs::create_dir(&place).unwrap();
    printed(&begin());
    let file = ["--resume", "runs/x/config.json"];
    refused(&run(TRAIN, folder.path(), &file), &["it is a file"]);
}

#[test]
fn numbers_that_cannot_be_are_refused_in_a_line() {
    let cases: [(&str, &str, &[&str]); 9] = [
        (
            GENERATE,
            "--beam-size 1000000000",
            &["`--beam-size` is 1000000000", "1024"],
        ),
        (
            GENERATE,
            "--samples 1000000000",
            &["`--samples` is 1000000000", "1024"],
        ),
        (
            GENERATE,
            "--tokens 18446744073709551615",
            &["`--tokens` is 18446744073709551615"],
        ),
        (
            GENERATE,
            "--beam-size 2 --tokens 18446744073709551615",
            &["`--tokens`"],
        ),
        (GENERATE, "--tokens -1", &["'-1' for '--tokens"]),
        (
            GENERATE,
            "--temperature nan",
            &["'nan' for '--temperature", "finite"],
        ),
        (
            TRAIN,
            "--learning-rate nan",
            &["'nan' for '--learning-rate", "finite"],
        ),
        (TRAIN, "--steps 99999999999999999999", &["'--steps"]),
        (
            TRAIN,
            "--resume runs/text --length 7",
            &["--length cannot be changed", "--preset RUN/config.json"],
        ),
    ];
    for (program, arguments, parts) in cases {
        let more = match program == GENERATE {
            true => "--checkpoint runs/text --prompt A ",
            false => "",
        };
        let output = call(program, trained(), &format!("{more}{arguments}"));
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = output.status.code();
        assert!(matches!(code, Some(1 | 2)), "{arguments}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        for part in parts {
            assert!(message.contains(part), "{part:?} is missing: {message}");
        }
    }
}

/// Where the free memory is known.
#[cfg(target_os = "linux")]
#[test]
fn generations_that_do_not_fit_into_memory_are_refused() {
    for (flag, way_out) in [
        ("--samples", "`--samples`"),
        ("--beam-size", "`--beam-size`"),
    ] {
        let arguments = format!("--checkpoint runs/text --prompt A {flag} 1024 --tokens 16000000");
        refused(
            &call(GENERATE, trained(), &arguments),
            &["1024 sequences of 16000001 tokens", "MiB are left", way_out],
        );
    }
}

#[test]
fn files_that_are_read_are_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let text = "To be, or not to be, that is the question.\n".repeat(400);
    fs::write(path.join("book.txt"), text).unwrap();
    fs::write(path.join("steps.jsonl"), "{}\n").unwrap();
    let few = ["--steps", "1", "--name", "x", "--data", "book.txt"];
    printed(&train(path, &few));
    let before = contents(path);
    let of_run = "--checkpoint runs/x";
    let step = "runs/x/checkpoint/model-1.mpk";
    assert!(path.join(step).is_file());
    for (program, arguments, file) in [
        (EVALUATE, format!("{of_run} --json"), "runs/x/config.json"),
        (EVALUATE, format!("{of_run} --json"), step),
        (EVALUATE, format!("{of_run} --json"), "book.txt"),
        (
            CLASSIFY,
            format!("{of_run} --text A --output"),
            "runs/x/model.mpk",
        ),
        (
            ANSWER,
            format!("{of_run} --question A --context A --output"),
            "runs/x/run.json",
        ),
        (
            TRANSLATE,
            format!("{of_run} --text A --output"),
            "runs/x/config.json",
        ),
        (
            GENERATE_IMAGE,
            format!("{of_run} --output"),
            "runs/x/config.json",
        ),
        (
            INSPECT,
            format!("{of_run} --input book.txt --html"),
            "runs/x/metrics.csv",
        ),
        (
            INSPECT,
            format!("{of_run} --input book.txt --json"),
            "runs/x/config.json",
        ),
        (PLOT_STEPS, "steps.jsonl --svg".to_owned(), "steps.jsonl"),
        // Of a run that is not read.
        (
            PLOT_STEPS,
            "steps.jsonl --svg".to_owned(),
            "runs/x/model.mpk",
        ),
        (
            REFORMER,
            "compare runs/x --html".to_owned(),
            "runs/x/metrics.csv",
        ),
    ] {
        let output = call(program, path, &format!("{arguments} {file}"));
        refused(
            &output,
            &[file, "is read, and would be overwritten: name another file"],
        );
    }
    for (program, arguments, file) in [
        (
            EVALUATE,
            format!("{of_run} --json"),
            "runs/x/checkpoint/new",
        ),
        (
            TRANSLATE,
            format!("{of_run} --text A --output"),
            "runs/x/classes.json",
        ),
    ] {
        let output = call(program, path, &format!("{arguments} {file}"));
        refused(
            &output,
            &[
                file,
                "would take it for a file of its own: name another file",
            ],
        );
    }
    let same = format!("{of_run} --input book.txt --html page --json page");
    refused(
        &call(INSPECT, path, &same),
        &["`--html` is `page`, and `--json` is the same file"],
    );
    // Where no file can be, before anything is measured.
    for (place, reason) in [
        ("runs", "it is a folder: name a file in it (--json)"),
        ("none/scores.json", "its folder does not exist"),
    ] {
        let output = call(EVALUATE, path, &format!("{of_run} --json {place}"));
        let said = format!("`{place}` cannot be written: {reason}");
        refused(&output, &[&said]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    }
    assert_eq!(contents(path), before);
    // Other files in a run's folder are results, which may be replaced.
    for _ in 0..2 {
        let scores = format!("{of_run} --json runs/x/scores.json");
        printed(&call(EVALUATE, path, &scores));
    }
}
