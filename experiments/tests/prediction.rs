//! Trained models applied to texts that nobody has labelled.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{printed, refused, run, run_with};
use serde_json::Value;

const TRAIN_CLASSIFIER: &str = env!("CARGO_BIN_EXE_train_classifier");
const TRAIN_QA: &str = env!("CARGO_BIN_EXE_train_qa");
const CLASSIFY: &str = env!("CARGO_BIN_EXE_classify");
const ANSWER: &str = env!("CARGO_BIN_EXE_answer");
const EVALUATE: &str = env!("CARGO_BIN_EXE_evaluate");

/// A model that trains in a moment.
const SMALL: &str =
    "--layers 1 --d-model 16 --n-heads 2 --batch-size 8 --steps-per-epoch 20 --name x";

fn train(program: &str, folder: &Path, more: &str) {
    let arguments = format!("{SMALL} {more}");
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    printed(&run(program, folder, &arguments));
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn texts_are_classified() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let rows: String = (0..60)
        .map(|i| match i % 2 {
            0 => format!("\"aaaa, aaa{i}\",first\n"),
            _ => format!("bbbbbbbb{i},second\n"),
        })
        .collect();
    fs::write(path.join("data.csv"), format!("text,label\n{rows}")).unwrap();
    train(
        TRAIN_CLASSIFIER,
        path,
        "--data data.csv --length 32 --steps 40 --learning-rate 0.01",
    );
    let classify = |arguments: &[&str]| {
        let checkpoint = ["--checkpoint", "runs/x"];
        run(CLASSIFY, path, &[&checkpoint, arguments].concat())
    };
    let texts = ["--text", "aaaa, aaa99", "--text", "bbbbbbbb99"];
    let found = printed(&classify(&texts));
    let [first, second] = &json_lines(&found)[..] else {
        panic!("{found}");
    };
    assert_eq!(first["text"], "aaaa, aaa99");
    assert_eq!(first["class"], "first");
    assert_eq!(second["class"], "second");
    for record in [first, second] {
        let all = record["probabilities"].as_object().unwrap();
        let sum: f64 = all.values().map(|p| p.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{record}");
        assert_eq!(
            all[record["class"].as_str().unwrap()],
            record["probability"]
        );
        assert!(record["probability"].as_f64().unwrap() > 0.5);
    }

    // Whatever way the texts come, and however many at a time.
    let lines = "aaaa, aaa99\nbbbbbbbb99\n";
    fs::write(path.join("in.txt"), format!("\u{feff}{lines}")).unwrap();
    let jsonl = r#"{"text": "aaaa, aaa99"}
"bbbbbbbb99""#;
    fs::write(path.join("in.jsonl"), jsonl).unwrap();
    for arguments in [
        &["--input", "in.txt"][..],
        &["--input", "in.txt", "--batch-size", "1"],
        &["--input", "in.jsonl"],
    ] {
        assert_eq!(printed(&classify(arguments)), found, "{arguments:?}");
    }
    let piped = run_with(CLASSIFY, path, "--checkpoint runs/x", lines);
    assert_eq!(printed(&piped), found);
    // A table, with what else is in it; the classes are those that `evaluate` counts.
    let table = ["--input", "data.csv", "--output", "out.csv"];
    assert_eq!(printed(&classify(&table)), "");
    let out = fs::read_to_string(path.join("out.csv")).unwrap();
    let mut rows = csv::Reader::from_reader(out.as_bytes());
    let header: Vec<String> = rows.headers().unwrap().iter().map(str::to_owned).collect();
    assert_eq!(
        header,
        [
            "text",
            "label",
            "class",
            "probability",
            "probabilities.first",
            "probabilities.second"
        ]
    );
    let rows: Vec<csv::StringRecord> = rows.records().map(Result::unwrap).collect();
    let n_right = rows.iter().filter(|row| row[1] == row[2]).count();
    assert_eq!(rows.len(), 60);
    let evaluate = [
        "--checkpoint",
        "runs/x",
        "--data",
        "data.csv",
        "--json",
        "scores.json",
    ];
    printed(&run(EVALUATE, path, &evaluate));
    let scores = fs::read_to_string(path.join("scores.json")).unwrap();
    let scores: Value = serde_json::from_str(&scores).unwrap();
    let accuracy = scores["accuracy"].as_f64().unwrap();
    assert!(
        (accuracy - 100.0 * n_right as f64 / 60.0).abs() < 1e-6,
        "{accuracy}, {n_right}"
    );

    let long = "aaaa ".repeat(20);
    let cut = classify(&["--text", &long]);
    let told = String::from_utf8_lossy(&cut.stderr).into_owned();
    printed(&cut);
    assert!(
        told.starts_with("warning: 1 of 1 records are longer"),
        "{told}"
    );
    fs::write(path.join("other.csv"), "sentence,n\nx,1\n").unwrap();
    fs::write(path.join("latin1.txt"), b"a\n\xe4\n").unwrap();
    let data = fs::read(path.join("data.csv")).unwrap();
    fs::hard_link(path.join("data.csv"), path.join("hard.csv")).unwrap();
    for output in ["data.csv", "runs/../data.csv", "hard.csv"] {
        refused(
            &classify(&["--input", "data.csv", "--output", output]),
            &[
                "`--output` is",
                output,
                "`data.csv` is read",
                "another file",
            ],
        );
        assert_eq!(fs::read(path.join(output)).unwrap(), data);
    }
    let cases: [(&[&str], &[&str]); 4] = [
        (
            &["--input", "other.csv"],
            &["record 1", "no field `text`, but sentence, n"],
        ),
        (
            &["--input", "latin1.txt"],
            &["line 2 of `latin1.txt`", "not UTF-8"],
        ),
        (&["--input", "none.txt"], &["`none.txt` cannot be read"]),
        (
            &["--text", "a", "--batch-size", "0"],
            &["`--batch-size` is 0"],
        ),
    ];
    for (arguments, parts) in cases {
        refused(&classify(arguments), parts);
    }
    let other = [
        "--checkpoint",
        "runs/x",
        "--question",
        "a",
        "--context",
        "b",
    ];
    refused(
        &run(ANSWER, path, &other),
        &["a classifier", "answers questions"],
    );
}

#[test]
fn lists_are_classified_in_their_own_notation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    train(
        TRAIN_CLASSIFIER,
        path,
        "--task listops --length 32 --steps 20 --set data.LongRange.Lists.n_train=40 \
         --set data.LongRange.Lists.n_valid=10",
    );
    let classify = |text: &str| run(CLASSIFY, path, &["--checkpoint", "runs/x", "--text", text]);
    let found = printed(&classify("[MAX 4 [MIN 7 2 ] 0 ]"));
    let [list] = &json_lines(&found)[..] else {
        panic!("{found}");
    };
    assert_eq!(list["probabilities"].as_object().unwrap().len(), 10);
    // Parentheses of the benchmark's files mean nothing.
    let same = printed(&classify("( ( ( [MAX 4 ) ( ( ( [MIN 7 ) 2 ) ] ) ) 0 ) ] )"));
    assert_eq!(json_lines(&same)[0]["probabilities"], list["probabilities"]);
    refused(
        &classify("[MAX 4"),
        &["record 1", "`listops`", "not closed"],
    );
    refused(
        &classify("a text"),
        &["record 1", "neither a digit nor an operator"],
    );
}

#[test]
fn questions_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let question = |i: usize| {
        format!(
            r#"{{"context": "Für Käthe ({i}).", "qas": [{{"id": "q{i}", "question": "Für wen?",
                "answers": [{{"text": "Käthe", "answer_start": 4}}]}}]}}"#
        )
    };
    let questions: Vec<String> = (0..40).map(question).collect();
    let squad = format!(
        r#"{{"data": [{{"title": "t", "paragraphs": [{}]}}]}}"#,
        questions.join(",")
    );
    fs::write(path.join("squad.json"), &squad).unwrap();
    train(
        TRAIN_QA,
        path,
        "--data squad.json --length 64 --steps 60 --learning-rate 0.01",
    );
    let answer = |arguments: &[&str]| {
        let checkpoint = ["--checkpoint", "runs/x"];
        run(ANSWER, path, &[&checkpoint, arguments].concat())
    };
    let asked = ["--question", "Für wen?", "--context", "Für Käthe (7)."];
    let found = printed(&answer(&asked));
    let [found] = &json_lines(&found)[..] else {
        panic!("{found}");
    };
    assert_eq!(found["answer"], "Käthe");
    assert_eq!((&found["start"], &found["end"]), (&4.into(), &9.into()));
    let probability = found["probability"].as_f64().unwrap();
    assert!(probability > 0.2 && probability <= 1.0, "{probability}");

    // The answers to the questions that validated are those of the training.
    let trained = fs::read_to_string(path.join("runs/x/answers.json")).unwrap();
    let trained: Value = serde_json::from_str(&trained).unwrap();
    let all = json_lines(&printed(&answer(&["--input", "squad.json"])));
    assert_eq!(all.len(), 40);
    for record in &all {
        let id = record["id"].as_str().unwrap();
        if let Some(expected) = trained.get(id) {
            assert_eq!(
                record["answer"].as_str().unwrap_or_default(),
                expected,
                "{id}"
            );
        }
        let (start, end) = (&record["start"], &record["end"]);
        if let (Some(start), Some(end)) = (start.as_u64(), end.as_u64()) {
            let context: Vec<char> = record["context"].as_str().unwrap().chars().collect();
            let there: String = context[start as usize..end as usize].iter().collect();
            assert_eq!(record["answer"], there);
        } else {
            assert!(record["answer"].is_null());
        }
    }

    let table = "n,question,context\n1,Für wen?,Für Käthe (7).\n";
    fs::write(path.join("in.csv"), table).unwrap();
    printed(&answer(&["--input", "in.csv", "--output", "out.csv"]));
    let out = fs::read_to_string(path.join("out.csv")).unwrap();
    assert!(
        out.starts_with("n,question,context,answer,probability,start,end\n1,"),
        "{out}"
    );
    fs::write(path.join("context.txt"), "Für Käthe (7).\n").unwrap();
    let file = ["--question", "Für wen?", "--context-file", "context.txt"];
    assert_eq!(json_lines(&printed(&answer(&file)))[0]["answer"], "Käthe");
    let piped = run_with(
        ANSWER,
        path,
        "--checkpoint runs/x",
        "{\"question\": \"Für wen?\", \"context\": \"Für Käthe (7).\"}\n{\"context\": \"\"}\n",
    );
    refused(&piped, &["record 2", "no field `question`"]);
}
