//! The programs as a user meets them: what they print, write and leave alone.

mod common;

use std::fs;
use std::path::Path;
use std::process::Output;

use common::{BRIEF, TRAIN, contents, printed, refused, run, train};
use reformer_train::run::Checkpoints;

const CLASSIFY: &str = env!("CARGO_BIN_EXE_train_classifier");
const TRANSLATE: &str = env!("CARGO_BIN_EXE_train_translation");
const GENERATE: &str = env!("CARGO_BIN_EXE_generate_text");
const STEP: &str = env!("CARGO_BIN_EXE_bench_step");

#[test]
fn translation_is_trained_scored_and_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    let translate = |more: &[&str]| {
        let small = "--layers 1 --d-model 16 --n-heads 2 --batch-size 8 --steps-per-epoch 2 \
                     --eval-windows 8 --set model.reformer.vocab_size=300 --steps 4";
        let small: Vec<&str> = small.split_whitespace().collect();
        run(TRANSLATE, folder.path(), &[&small, more].concat())
    };
    let scored = ["--bleu-sentences", "6", "--beam-size", "2"];
    let output = printed(&translate(&[&["--name", "x"], &scored[..]].concat()));
    assert!(output.contains("bits per piece"), "{output}");
    assert!(
        output.contains("6 sentences, beam of 2: BLEU = "),
        "{output}"
    );
    assert!(output.contains("nrefs:1|case:mixed"), "{output}");
    for file in ["subwords.json", "report.html", "model.mpk", "bleu.txt"] {
        assert!(at(&format!("runs/x/{file}")).is_file(), "{file}");
    }
    let translations = fs::read_to_string(at("runs/x/translations.tsv")).unwrap();
    assert_eq!(translations.lines().count(), 6, "{translations}");
    assert!(
        translations
            .lines()
            .all(|line| line.matches('\t').count() == 2)
    );

    let weights = fs::read(at("runs/x/model.mpk")).unwrap();
    fs::remove_file(at("runs/x/model.mpk")).unwrap();
    fs::remove_file(at("runs/x/checkpoint/model-4.mpk")).unwrap();
    let resume = [&["--resume", "runs/x"], &scored[..]].concat();
    let resumed = printed(&run(TRANSLATE, folder.path(), &resume));
    assert!(resumed.contains("Resuming after step 2"), "{resumed}");
    assert_eq!(fs::read(at("runs/x/model.mpk")).unwrap(), weights);

    // Your own files, the other way.
    fs::write(at("a.en"), "One.\nTwo.\nThree.\n".repeat(9)).unwrap();
    fs::write(at("a.de"), "Eins.\nZwei.\nDrei.\n".repeat(9)).unwrap();
    let own = "--data a.en a.de --valid a.en a.de --reverse --name y --bleu-sentences 1";
    let own: Vec<&str> = own.split_whitespace().collect();
    assert!(printed(&translate(&own)).contains("Eins. ->"));

    fs::write(at("b.de"), "Eins.\n").unwrap();
    let cases: [(&[&str], &[&str]); 6] = [
        (&["--data", "a.en", "b.de"], &["27 lines", "has 1"]),
        (&["--data", "a.en"], &["a.en", "no tab"]),
        (&["--data", "none.tsv"], &["none.tsv", "no file"]),
        (&["--preset", "tiny"], &["not for translation"]),
        (&["--preset", "wmt-base"], &["--data"]),
        (&["--beam-size", "0"], &["`--beam-size` is 0"]),
    ];
    for (arguments, parts) in cases {
        refused(&translate(arguments), parts);
    }
    let generate = ["--checkpoint", "runs/x", "--prompt", "Tom"];
    refused(
        &run(GENERATE, folder.path(), &generate),
        &["an encoder-decoder"],
    );
}

#[test]
fn run_is_written_resumed_and_continued() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    let arguments = ["--name", "x", "--steps", "5", "--steps-per-epoch", "2"];
    let output = printed(&train(folder.path(), &arguments));
    assert!(output.contains("--resume runs/x"), "{output}");
    assert!(
        output.contains("bits per byte on held-out data"),
        "{output}"
    );
    assert!(output.contains("--checkpoint runs/x"), "{output}");
    for file in [
        "config.json",
        "metrics.csv",
        "report.html",
        "samples.jsonl",
        "loss.svg",
        "model.mpk",
        "sample.txt",
    ] {
        assert!(at(&format!("runs/x/{file}")).is_file(), "{file}");
    }
    let weights = fs::read(at("runs/x/model.mpk")).unwrap();
    let metrics = fs::read_to_string(at("runs/x/metrics.csv")).unwrap();
    assert_eq!(metrics.matches("valid").count(), 3, "{metrics}");

    // An existing run is left alone.
    let before = contents(folder.path());
    let again = train(folder.path(), &arguments);
    refused(&again, &["`runs/x` exists already", "resume"]);
    assert_eq!(contents(folder.path()), before);

    // Its configuration is one to start from; curves for TensorBoard change nothing.
    let preset = [
        "--preset",
        "runs/x/config.json",
        "--name",
        "again",
        "--sample-tokens",
        "0",
        "--tensorboard",
    ];
    printed(&run(TRAIN, folder.path(), &preset));
    let config = |name: &str| fs::read_to_string(at(&format!("runs/{name}/config.json"))).unwrap();
    assert_eq!(config("again"), config("x"));
    assert_eq!(fs::read(at("runs/again/model.mpk")).unwrap(), weights);
    let has_events = |name: &str| {
        let files = contents(&at(&format!("runs/{name}")));
        files
            .into_iter()
            .any(|(path, _)| path.contains(".tfevents."))
    };
    assert!(has_events("again") && !has_events("x"));
    fs::remove_dir_all(at("runs/again")).unwrap();

    // An optimizer of another kind, and steps in parts.
    let other = ["--optimizer", "adafactor", "--accumulate", "2"];
    let few = ["--name", "other", "--steps", "3"];
    printed(&train(folder.path(), &[&few[..], &other[..]].concat()));
    assert!(config("other").contains("\"Adafactor\""));
    fs::remove_dir_all(at("runs/other")).unwrap();

    // As if it had been killed while the last checkpoint was written.
    fs::remove_file(at("runs/x/model.mpk")).unwrap();
    fs::remove_file(at("runs/x/checkpoint/scheduler-5.mpk")).unwrap();
    let resumed = printed(&run(
        TRAIN,
        folder.path(),
        &["--resume", "runs/x", "--sample-tokens", "0"],
    ));
    assert!(resumed.contains("Resuming after step 4"), "{resumed}");
    assert_eq!(fs::read(at("runs/x/model.mpk")).unwrap(), weights);

    // A damaged checkpoint is named, and an older one taken, unless the run is over.
    fs::remove_file(at("runs/x/model.mpk")).unwrap();
    truncate(&at("runs/x/checkpoint/optim-5.mpk"));
    let resumed = run(
        TRAIN,
        folder.path(),
        &["--resume", "runs/x", "--sample-tokens", "0"],
    );
    assert!(printed(&resumed).contains("Resuming after step 4"));
    let warning = String::from_utf8_lossy(&resumed.stderr).into_owned();
    assert!(
        warning.starts_with("warning: `runs/x/checkpoint/optim-5.mpk` is"),
        "{warning}"
    );
    assert_eq!(fs::read(at("runs/x/model.mpk")).unwrap(), weights);

    // Without an older one it is an error.
    for step in Checkpoints::of_run(&at("runs/x")).complete() {
        truncate(&at(&format!("runs/x/checkpoint/model-{step}.mpk")));
    }
    fs::remove_file(at("runs/x/model.mpk")).unwrap();
    let before = contents(folder.path());
    let failed = run(TRAIN, folder.path(), &["--resume", "runs/x"]);
    refused(&failed, &["runs/x/checkpoint/model-5.mpk"]);
    assert_eq!(contents(folder.path()), before);
    fs::write(at("runs/x/model.mpk"), &weights).unwrap();

    continue_text(folder.path());
    truncate(&at("runs/x/model.mpk"));
    let damaged = generate(folder.path(), &["--prompt", "A"]);
    refused(&damaged, &["`runs/x/model.mpk` is missing or damaged"]);
}

fn truncate(path: &Path) {
    let bytes = fs::read(path).expect("the file is there");
    fs::write(path, &bytes[..bytes.len() / 2]).expect("the file can be written");
}

fn generate(folder: &Path, arguments: &[&str]) -> Output {
    run(
        GENERATE,
        folder,
        &[&["--checkpoint", "runs/x"], arguments].concat(),
    )
}

fn continue_text(folder: &Path) {
    let text = |seed| {
        let arguments = ["--prompt", "ROMEO:", "--tokens", "30", "--seed", seed];
        printed(&generate(folder, &arguments))
    };
    assert!(text("1").starts_with("ROMEO:"));
    assert_eq!(text("1"), text("1"));
    assert_ne!(text("1"), text("2"));
    refused(
        &generate(folder, &["--prompt", ""]),
        &["`--prompt` is empty"],
    );
    refused(
        &generate(folder, &["--prompt", "A", "--tokens", "0"]),
        &["0 tokens"],
    );
    // Rotary positions go beyond the windows of the training.
    printed(&generate(folder, &["--prompt", &"A".repeat(60)]));
    refused(
        &generate(folder, &["--prompt", "A", "--temperature", "-1"]),
        &["`--temperature` is -1"],
    );
}

#[test]
fn training_starts_from_other_weights() {
    let folder = tempfile::tempdir().unwrap();
    let start = |arguments: &[&str]| {
        let all = [&BRIEF[..], &["--steps", "1"], arguments].concat();
        run(TRAIN, folder.path(), &all)
    };
    printed(&train(folder.path(), &["--steps", "1", "--name", "first"]));
    // The model is built as that one.
    let text = printed(&start(&["--init-from", "runs/first", "--name", "second"]));
    assert!(text.contains("tensors reused\n"), "{text}");
    // What reads in both directions is built for that.
    let classify = [
        "--init-from",
        "runs/first",
        "--steps",
        "1",
        "--eval-windows",
        "2",
        "--name",
        "told",
    ];
    let text = printed(&run(CLASSIFY, folder.path(), &classify));
    assert!(
        text.contains("in part: `reformer.embedding.weight` (256 of 257 rows)")
            && text.contains("`causal` was true and is false"),
        "{text}"
    );
    let config = fs::read_to_string(folder.path().join("runs/told/config.json")).unwrap();
    assert!(
        config.contains("\"after\": 1") && config.contains("\"causal\": false"),
        "{config}"
    );
    // The configuration of a run does not bring its weights along.
    let again = ["--preset", "runs/second/config.json", "--name", "again"];
    let text = printed(&start(&again));
    assert!(
        text.contains("from random weights") && text.contains("--init-from"),
        "{text}"
    );
    assert!(text.contains("runs/first\n"), "{text}");
    let wider = ["--preset", "tiny", "--d-model", "32", "--name", "wider"];
    let wider = start(&[&["--init-from", "runs/first"], &wider[..]].concat());
    refused(&wider, &["runs/first", "cannot start from", "config.json"]);
    assert!(!folder.path().join("runs/wider").exists());
    let none = start(&["--init-from", "nowhere", "--name", "none"]);
    refused(&none, &["nowhere", "not the folder of a run"]);
}

#[test]
fn half_precision_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--name", "half", "--steps", "2", "--precision", "f16"];
    printed(&train(folder.path(), &arguments));
    let config = fs::read_to_string(folder.path().join("runs/half/config.json")).unwrap();
    assert!(config.contains("\"precision\": \"F16\""), "{config}");
}

#[cfg(feature = "ndarray")]
#[test]
fn half_precision_is_refused_where_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let before = contents(folder.path());
    let arguments = ["--device", "ndarray", "--precision", "bf16"];
    let parts = ["`precision` is Bf16", "cannot compute in it"];
    refused(&train(folder.path(), &arguments), &parts);
    assert_eq!(contents(folder.path()), before);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn backend_that_is_not_compiled_in_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = train(folder.path(), &["--device", "cuda"]);
    refused(&output, &["without the backend `cuda`", "--features cuda"]);
}

#[test]
fn help_has_examples() {
    for program in [TRAIN, GENERATE, STEP] {
        let help = printed(&run(program, Path::new("."), &["--help"]));
        assert!(help.contains("Examples:"), "{help}");
    }
}
