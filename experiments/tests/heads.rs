//! The programs for models with a head, and the one that measures any run, as a user meets them.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Output;

use common::{call, printed, refused};
use serde_json::Value;

const MASKED: &str = env!("CARGO_BIN_EXE_train_masked");
const CLASSIFIER: &str = env!("CARGO_BIN_EXE_train_classifier");
const QA: &str = env!("CARGO_BIN_EXE_train_qa");
const TRANSLATE: &str = env!("CARGO_BIN_EXE_train_translation");
const TEXT: &str = env!("CARGO_BIN_EXE_train_text");
const IMAGES: &str = env!("CARGO_BIN_EXE_train_images");
const DUPLICATION: &str = env!("CARGO_BIN_EXE_train_duplication");
const EVALUATE: &str = env!("CARGO_BIN_EXE_evaluate");
const GENERATE: &str = env!("CARGO_BIN_EXE_generate_text");

/// A model that trains in a moment.
const SMALL: &str =
    "--layers 2 --d-model 16 --n-heads 2 --batch-size 4 --steps 4 --steps-per-epoch 2";

fn train(program: &str, folder: &Path, more: &str) -> Output {
    call(program, folder, &format!("{SMALL} {more}"))
}

/// What `evaluate` writes of a run.
fn evaluated(folder: &Path, more: &str) -> (String, Value) {
    let arguments = format!("--checkpoint runs/x --json scores.json {more}");
    let output = printed(&call(EVALUATE, folder, &arguments));
    let json = fs::read_to_string(folder.join("scores.json")).unwrap();
    (output, serde_json::from_str(&json).unwrap())
}

/// Asserts that numbers are those of the run's last evaluation.
fn assert_last(scores: &Value, folder: &Path) {
    let rows = reformer_train::metrics::read_rows(&folder.join("runs/x/metrics.csv")).unwrap();
    let last = rows.iter().rfind(|row| row.split == "valid").unwrap();
    let loss = scores["loss"].as_f64().unwrap();
    assert!(
        (loss - last.loss()).abs() < 1e-6,
        "{loss}, not {}",
        last.loss()
    );
    let accuracy = last
        .get(reformer_train::metrics::Quantity::Accuracy)
        .unwrap();
    assert!((scores["accuracy"].as_f64().unwrap() - accuracy).abs() < 1e-4);
}

#[test]
fn hidden_bytes_are_learned_shown_and_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let windows = "--length 48 --eval-windows 3";
    let output = printed(&train(MASKED, path, &format!("--name x {windows}")));
    for part in [
        "bits per byte on held-out data",
        "Masked:\n",
        "Predicted:\n",
        "Original:\n",
    ] {
        assert!(output.contains(part), "{part}: {output}");
    }
    let (output, scores) = evaluated(path, "");
    assert!(output.contains("\na masked language model on "), "{output}");
    assert_last(&scores, path);
    let weights = fs::read(path.join("runs/x/model.mpk")).unwrap();
    fs::remove_file(path.join("runs/x/model.mpk")).unwrap();
    fs::remove_file(path.join("runs/x/checkpoint/model-4.mpk")).unwrap();
    let other = "`runs/x` trains a masked language model by `train_masked`: resume it with `";
    for program in [TEXT, IMAGES, DUPLICATION] {
        refused(&call(program, path, "--resume runs/x --steps 9"), &[other]);
    }
    let resumed = printed(&call(MASKED, path, "--resume runs/x"));
    assert!(resumed.contains("Resuming after step 2"), "{resumed}");
    assert_eq!(fs::read(path.join("runs/x/model.mpk")).unwrap(), weights);

    fs::write(path.join("book.txt"), "A book of one line. ".repeat(200)).unwrap();
    let own = format!("--data book.txt --preset tiny --name own {windows}");
    printed(&train(MASKED, path, &own));
    let config = fs::read_to_string(path.join("runs/own/config.json")).unwrap();
    assert!(config.contains("\"mask_token\": 256"), "{config}");
    // Fifteen percent of 83 windows of 48 bytes, about.
    let (_, scores) = evaluated(path, "--data book.txt");
    let n_hidden = scores["n_targets"].as_u64().unwrap();
    assert!((450..750).contains(&n_hidden), "{n_hidden}");

    let generate = call(GENERATE, path, "--checkpoint runs/x --prompt A");
    refused(&generate, &["runs/x", "does not continue texts"]);
    refused(
        &train(MASKED, path, "--preset duplication"),
        &["not for texts"],
    );
    let causal = "--set model.reformer.causal=true";
    refused(
        &train(MASKED, path, causal),
        &["`causal` is true", "both sides"],
    );
    let text = train(TEXT, path, "--set model.reformer.causal=false");
    refused(&text, &["`causal` is false", "mask tokens"]);
    let missing = call(EVALUATE, path, "--checkpoint runs/x --data none.txt");
    refused(&missing, &["none.txt", "no file"]);
    let nowhere = call(EVALUATE, path, "--checkpoint runs/none");
    refused(&nowhere, &["`runs/none` is not the folder of a run"]);
}

#[test]
fn classes_are_learned_and_confused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    // Texts must differ to be divided.
    let many: String = (0..12)
        .map(|i| format!("\"yes, it is {i}\",good\nno {i},bad\nperhaps {i},unknown\n"))
        .collect();
    fs::write(path.join("a.csv"), format!("text,label\n{many}")).unwrap();
    let output = printed(&train(CLASSIFIER, path, "--data a.csv --name x"));
    assert!(
        output.contains("bits per label on held-out data"),
        "{output}"
    );
    assert!(output.contains("The most frequent class alone"), "{output}");
    let config = fs::read_to_string(path.join("runs/x/config.json")).unwrap();
    assert!(config.contains("\"n_classes\": 3"), "{config}");
    let (output, scores) = evaluated(path, "");
    assert!(output.contains("unknown"), "{output}");
    assert_last(&scores, path);

    for (class, text) in [("good", "fine"), ("bad", "awful"), ("bad", "dreadful")] {
        fs::create_dir_all(path.join("b").join(class)).unwrap();
        fs::write(path.join("b").join(class).join(text), text).unwrap();
    }
    let (_, scores) = evaluated(path, "--data b");
    assert_eq!(scores["n_targets"], 3);
    let majority = scores["classes"]["majority"].as_f64().unwrap();
    assert!((majority - 200.0 / 3.0).abs() < 1e-9);
    let of_bad = scores["classes"]["confusion"][0].as_array().unwrap();
    assert_eq!(of_bad.iter().filter_map(Value::as_u64).sum::<u64>(), 2);

    for (name, table) in [
        ("columns.csv", "sentence,label\nx,y\n"),
        ("label.csv", "text,label\nx,y\nz,\n"),
        ("other.csv", "text,label\nx,strange\n"),
        ("one.csv", "text,label\nx,y\n"),
    ] {
        fs::write(path.join(name), table).unwrap();
    }
    let cases: [(&str, &[&str]); 6] = [
        (
            "--data columns.csv",
            &["columns.csv", "no column `text`", "sentence"],
        ),
        ("--data label.csv", &["label.csv", "line 3 has no label"]),
        (
            "--data a.csv --valid other.csv",
            &["other.csv", "`strange`", "bad, good"],
        ),
        ("--data one.csv", &["one.csv", "1 different texts"]),
        ("--data none.csv", &["none.csv", "no file"]),
        ("--preset tiny", &["not for classes of texts"]),
    ];
    for (arguments, parts) in cases {
        refused(&train(CLASSIFIER, path, arguments), parts);
    }
    let other = call(EVALUATE, path, "--checkpoint runs/x --data other.csv");
    refused(&other, &["other.csv", "`strange`"]);
    let generate = call(GENERATE, path, "--checkpoint runs/x --prompt A");
    refused(&generate, &["a classifier", "a language model"]);
}

#[test]
fn tasks_of_the_long_range_arena_are_learned_and_tested() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let few = "--set data.LongRange.Lists.n_train=60 --set data.LongRange.Lists.n_valid=20 \
               --set data.LongRange.Lists.n_test=30";
    let lists = format!("--task listops --length 32 {few} --name x");
    let output = printed(&train(CLASSIFIER, path, &lists));
    assert!(
        output.contains("generated ListOps (more than 8 and fewer than 32 symbols)"),
        "{output}"
    );
    let config = fs::read_to_string(path.join("runs/x/config.json")).unwrap();
    assert!(config.contains("\"n_classes\": 10"), "{config}");
    let (_, scores) = evaluated(path, "");
    assert_eq!(scores["n_targets"], 20);
    assert_last(&scores, path);
    let (output, scores) = evaluated(path, "--test");
    assert_eq!(scores["n_targets"], 30);
    assert!(output.contains("generated ListOps: 30 records"), "{output}");

    // The benchmark's files for the same run.
    fs::create_dir(path.join("lists")).unwrap();
    let table = "Source\tTarget\n( ( ( [MAX 4 ) 3 ) ] )\t4\n5\t5\n";
    fs::write(path.join("lists/basic_test.tsv"), table).unwrap();
    let (_, scores) = evaluated(path, "--data lists");
    assert_eq!(scores["n_targets"], 2);
    fs::write(path.join("lists/basic_test.tsv"), "Source\tTarget\n5\t4\n").unwrap();
    let wrong = call(EVALUATE, path, "--checkpoint runs/x --data lists");
    refused(
        &wrong,
        &["basic_test.tsv", "line 2 is 5, but its target is `4`"],
    );

    let too_few = format!("--task listops --length 32 {few} --set model.n_classes=3");
    let cases: [(&str, &[&str]); 4] = [
        ("--task image", &["`image`", "--data"]),
        ("--task image --data none", &["none/data_batch_1.bin"]),
        ("--task listops --length 4", &["min_length is 1"]),
        (&too_few, &["`n_classes` is 3", "10 different classes"]),
    ];
    for (arguments, parts) in cases {
        refused(&train(CLASSIFIER, path, arguments), parts);
    }
    for (program, arguments, part) in [
        (CLASSIFIER, "--task other", "pathfinder"),
        (
            CLASSIFIER,
            "--task text --data lists --valid lists",
            "--valid",
        ),
        (
            EVALUATE,
            "--checkpoint runs/x --test --data lists",
            "--data",
        ),
    ] {
        let output = call(program, path, arguments);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn images_are_classified_by_their_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir(path.join("cifar")).unwrap();
    let names = (1..=5).map(|n| format!("data_batch_{n}"));
    for name in names.chain(["test_batch".to_owned()]) {
        let image = |class: u8| std::iter::once(class).chain([class * 25; 3072]);
        let images: Vec<u8> = (0..4).flat_map(image).collect();
        fs::write(path.join(format!("cifar/{name}.bin")), images).unwrap();
    }
    let output = printed(&train(
        CLASSIFIER,
        path,
        "--task image --data cifar --length 65 --name x",
    ));
    assert!(output.contains("the task `image` in"), "{output}");
    assert!(output.contains("18 rows are cut to 65 tokens"), "{output}");
    let (output, scores) = evaluated(path, "--test");
    assert_eq!(scores["n_targets"], 4);
    assert!(output.contains("airplane"), "{output}");
    let classes = fs::read_to_string(path.join("runs/x/classes.json")).unwrap();
    assert!(classes.contains("truck"), "{classes}");
}

/// A file of SQuAD 2.0 with questions about as many texts, of which every third has no answer.
fn squad(n_questions: usize) -> String {
    let question = |i: usize| {
        let (answers, is_impossible) = match i % 3 {
            0 => ("[]", true),
            _ => (r#"[{"text": "Käthe", "answer_start": 4}]"#, false),
        };
        format!(
            r#"{{"context": "Für Käthe ({i}).", "qas": [{{"id": "q{i}", "question": "Für wen?",
                "answers": {answers}, "is_impossible": {is_impossible}}}]}}"#
        )
    };
    let questions: Vec<String> = (0..n_questions).map(question).collect();
    let questions = questions.join(",");
    format!(r#"{{"version": "v2.0", "data": [{{"title": "t", "paragraphs": [{questions}]}}]}}"#)
}

#[test]
fn questions_are_answered_and_scored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("squad.json"), squad(40)).unwrap();
    let output = printed(&train(QA, path, "--data squad.json --name x"));
    assert!(
        output.contains("bits per border on held-out data"),
        "{output}"
    );
    assert!(output.contains("4 questions: exact match"), "{output}");
    let answers = fs::read_to_string(path.join("runs/x/answers.json")).unwrap();
    let answers: Value = serde_json::from_str(&answers).unwrap();
    let answers = answers.as_object().unwrap();
    assert_eq!(answers.len(), 4);
    assert!(answers.values().all(Value::is_string), "{answers:?}");
    let (_, scores) = evaluated(path, "");
    assert_last(&scores, path);
    assert_eq!(scores["answers"]["n_questions"], 4);
    let (_, scores) = evaluated(path, "--data squad.json --eval-windows 7");
    assert_eq!(scores["answers"]["n_questions"], 7);

    fs::write(path.join("broken.json"), &squad(3)[1..]).unwrap();
    // An answer beside the place that the file tells is found.
    let shifted = squad(40).replace("\"answer_start\": 4", "\"answer_start\": 5");
    fs::write(path.join("shifted.json"), shifted).unwrap();
    let found = printed(&train(QA, path, "--data shifted.json --name shifted"));
    assert!(found.contains("Training data: "), "{found}");
    // Where no answer lies in the window there is nothing to measure, which is refused before the training.
    let far = format!(
        r#"{{"version": "v2.0", "data": [{{"title": "t", "paragraphs": [{{"context": "{}Käthe",
            "qas": [{{"id": "a", "question": "Wen?", "is_impossible": false,
                "answers": [{{"text": "Käthe", "answer_start": 600}}]}}]}}]}}]}}"#,
        "x ".repeat(300)
    );
    fs::write(path.join("far.json"), far).unwrap();
    let arguments = "--data squad.json --valid far.json --name far";
    let said = "`--length` is 256, but none of 1 sequences to validate on has a target within so many tokens: raise it, \
                or name other data";
    refused(&train(QA, path, arguments), &[said]);
    assert!(!path.join("runs/far").exists());
    // One that has begun, as a configuration alone is, is trained all the same.
    let config = fs::read(path.join("runs/x/config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["data"]["Questions"]["valid"]["Squad"] = "far.json".into();
    fs::create_dir(path.join("runs/far")).unwrap();
    fs::write(path.join("runs/far/config.json"), config.to_string()).unwrap();
    let unmeasured = printed(&call(QA, path, "--resume runs/far --steps 5"));
    assert!(
        unmeasured.contains("Nothing was measured") && !unmeasured.contains("bits per border"),
        "{unmeasured}"
    );
    refused(
        &call(EVALUATE, path, "--checkpoint runs/x --data far.json"),
        &["there is nothing to measure", "(window_length)"],
    );
    let rows = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rows = rows.join("../datasets/tests/data/files/f09h_hf_rows.json");
    let rows = format!("--data {} --length 64", rows.display());
    let cases: [(&str, &[&str]); 5] = [
        (
            &rows,
            &[
                "`--length` is 64",
                "f09h_hf_rows.json`",
                "have 66 tokens or more",
                "raise it, to 10",
            ],
        ),
        (
            "--data broken.json",
            &["broken.json", "a file of SQuAD", "line 1"],
        ),
        ("--data none.json", &["none.json", "no file"]),
        ("--length 5", &["`--length` is 5", "raise it, to"]),
        ("--preset classifier", &["not for questions"]),
    ];
    for (arguments, parts) in cases {
        refused(&train(QA, path, arguments), parts);
    }
}

#[test]
fn translations_and_texts_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("a.en"), "One.\nTwo.\nThree.\n".repeat(9)).unwrap();
    fs::write(path.join("a.de"), "Eins.\nZwei.\nDrei.\n".repeat(9)).unwrap();
    let own = "--data a.en a.de --valid a.en a.de --set model.reformer.vocab_size=270 \
               --bleu-sentences 0 --name x";
    printed(&train(TRANSLATE, path, own));
    let bleu = "--bleu-sentences 3 --beam-size 1";
    let (output, scores) = evaluated(path, bleu);
    assert!(
        output.contains("3 sentences, beam of 1: BLEU = "),
        "{output}"
    );
    assert_last(&scores, path);
    let (_, others) = evaluated(path, &format!("--data a.en a.de {bleu}"));
    assert_eq!(others, scores);
    let table = call(EVALUATE, path, "--checkpoint runs/x --data a.en");
    refused(&table, &["a.en", "no tab"]);

    let text = "--length 48 --eval-windows 3 --sample-tokens 0 --name text";
    printed(&train(TEXT, path, text));
    let two = call(EVALUATE, path, "--checkpoint runs/text --data a.en a.de");
    refused(&two, &["2 files", "name fewer"]);
    let short = call(EVALUATE, path, "--checkpoint runs/text --data a.en");
    let short = printed(&short);
    assert!(
        short.starts_with("Data: ") && short.contains("a.en: 1 file"),
        "{short}"
    );
    assert!(
        short.contains("\na language model on 144 bytes: "),
        "{short}"
    );
}
