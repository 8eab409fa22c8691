//! Programs on tokens of a tokenizer, on ids and on columns of texts.

mod common;

use std::fs;
use std::path::Path;
use std::process::Output;

use common::hugging_face::{crime_and_punishment, write};
use common::{BRIEF, TRAIN, printed, refused, run};

const REFORMER: &str = env!("CARGO_BIN_EXE_reformer");
const GENERATE: &str = env!("CARGO_BIN_EXE_generate_text");
const EVALUATE: &str = env!("CARGO_BIN_EXE_evaluate");
const INSPECT: &str = env!("CARGO_BIN_EXE_inspect");

/// Steps of a training, and the layers of its model.
const STEPS: [&str; 2] = ["--steps", "2"];
const LAYERS: [&str; 2] = ["--attention", "local,lsh"];

/// Trains a small language model with layers of both kinds.
fn train(folder: &Path, arguments: &[&str]) -> Output {
    common::train(folder, &[&STEPS[..], &LAYERS, arguments].concat())
}

fn generate(folder: &Path, checkpoint: &str, arguments: &[&str]) -> Output {
    let all = [&["--checkpoint", checkpoint, "--tokens", "20"], arguments].concat();
    run(GENERATE, folder, &all)
}

#[test]
fn byte_pairs_from_training_to_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let text = printed(&train(
        path,
        &["--tokenizer", "bpe:300", "--name", "pieces"],
    ));
    for part in [
        "bits per token (",
        "bits per byte)",
        "bytes per token on average",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let config = fs::read_to_string(path.join("runs/pieces/config.json")).unwrap();
    assert!(config.contains("\"vocab_size\": 300"), "{config}");
    let samples = fs::read_to_string(path.join("runs/pieces/samples.jsonl")).unwrap();
    assert!(samples.contains("\"step\":2"), "{samples}");

    let written = printed(&generate(path, "runs/pieces", &["--prompt", "ROMEO:"]));
    assert!(written.starts_with("ROMEO:"), "{written}");
    fs::write(path.join("prompt"), "JULIET:\nO Romeo – ").unwrap();
    let from_file = printed(&generate(path, "runs/pieces", &["--prompt-file", "prompt"]));
    assert!(from_file.starts_with("JULIET:\nO Romeo – "), "{from_file}");
    let beam = ["--prompt", "ROMEO:", "--beam-size", "2"];
    printed(&generate(path, "runs/pieces", &beam));
    fs::write(path.join("prompt"), b"a\xff").unwrap();
    refused(
        &generate(path, "runs/pieces", &["--prompt-file", "prompt"]),
        &["this text is not UTF-8"],
    );

    let measured = printed(&run(EVALUATE, path, &["--checkpoint", "runs/pieces"]));
    assert!(measured.contains("bits per token, "), "{measured}");
    fs::write(path.join("other.txt"), "To be or not to be. ".repeat(40)).unwrap();
    let other = [
        "--checkpoint",
        "runs/pieces",
        "--data",
        "other.txt",
        "--json",
        "other.json",
    ];
    printed(&run(EVALUATE, path, &other));
    let json = fs::read_to_string(path.join("other.json")).unwrap();
    assert!(json.contains("\"bits_per_byte\""), "{json}");
    let inspect = [
        "--checkpoint",
        "runs/pieces",
        "--text",
        "other.txt",
        "--tokens",
        "64",
    ];
    printed(&run(INSPECT, path, &inspect));

    let resumed = [
        "--resume",
        "runs/pieces",
        "--steps",
        "3",
        "--sample-tokens",
        "5",
    ];
    printed(&run(TRAIN, path, &resumed));
    // The vocabulary goes along with the weights.
    fs::write(path.join("more.txt"), "What is in a name? ".repeat(400)).unwrap();
    let more = [
        "--data",
        "more.txt",
        "--init-from",
        "runs/pieces",
        "--name",
        "more",
    ];
    printed(&run(TRAIN, path, &[&BRIEF[..], &STEPS, &more].concat()));
    let [first, second] = ["pieces", "more"]
        .map(|name| fs::read(path.join("runs").join(name).join("subwords.json")).unwrap());
    assert!(first == second);
}

#[test]
fn ids_without_their_tokenizer_are_continued_by_ids() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let ids = |n: u16| {
        (0..n)
            .flat_map(|id| (id % 300).to_le_bytes())
            .collect::<Vec<u8>>()
    };
    fs::write(path.join("train.bin"), ids(2_000)).unwrap();
    fs::write(path.join("val.bin"), ids(300)).unwrap();
    let flags = ["--data", "train.bin", "--format", "ids16", "--name", "ids"];
    let text = printed(&train(path, &flags));
    assert!(text.contains("val.bin: 1 file, 300 tokens"), "{text}");
    assert!(
        text.contains("--checkpoint runs/ids --prompt '0'"),
        "{text}"
    );
    let written = printed(&generate(path, "runs/ids", &["--prompt", "5 6 7"]));
    let numbers: Vec<u32> = written
        .split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect();
    assert_eq!((numbers.len(), &numbers[..3]), (23, &[5, 6, 7][..]));
    assert!(numbers.iter().all(|number| *number < 300), "{written}");
    refused(
        &generate(path, "runs/ids", &["--prompt", "ROMEO:"]),
        &["`ROMEO:` is not the number of a token"],
    );
    let measured = printed(&run(EVALUATE, path, &["--checkpoint", "runs/ids"]));
    assert!(!measured.contains("bits per byte"), "{measured}");

    let bad = |arguments: &[&str], parts: &[&str]| {
        let all = [&["--data", "train.bin", "--name", "bad"], arguments].concat();
        refused(&train(path, &all), parts);
        assert!(!path.join("runs/bad").exists());
    };
    bad(
        &["--format", "ids16", "--tokenizer", "bpe:300"],
        &["ids are tokens already"],
    );
    bad(
        &["--format", "ids16", "--vocab-size", "299"],
        &["has the id 299"],
    );
    bad(&["--vocab-size", "299"], &["`--vocab-size 299` is for ids"]);
    bad(
        &["--format", "ids32", "--column", "a"],
        &["`--column a` is for JSON Lines"],
    );
    fs::write(path.join("train.bin"), b"abc").unwrap();
    bad(
        &["--format", "ids16"],
        &["is not a file of ids of 2 bytes each"],
    );
}

#[test]
fn columns_of_json_lines_are_told_by_their_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = "{\"story\": \"To be or not to be.\", \"ids\": [7, 8, 9]}\n";
    fs::write(path.join("a.jsonl"), line.repeat(400)).unwrap();
    let flags = ["--data", "a.jsonl", "--column", "story", "--name", "bytes"];
    let text = printed(&train(path, &flags));
    assert!(
        text.contains("400 texts") && text.contains("bits per byte on"),
        "{text}"
    );
    let flags = [
        "--data",
        "a.jsonl",
        "--column",
        "story",
        "--tokenizer",
        "bpe:265",
        "--name",
        "pieces",
    ];
    let text = printed(&train(path, &flags));
    assert!(text.contains("bits per byte) on"), "{text}");
    let flags = ["--data", "a.jsonl", "--column", "ids", "--name", "ids"];
    let text = printed(&train(path, &flags));
    assert!(text.contains("400 lists"), "{text}");
    refused(
        &train(path, &["--data", "a.jsonl", "--name", "bad"]),
        &["has no column `text`", "(it has `story`, `ids`)"],
    );
    refused(
        &train(
            path,
            &["--data", "a.jsonl", "--format", "parquet", "--name", "bad"],
        ),
        &["is not a Parquet file"],
    );
}

#[test]
fn tokenizer_of_a_hugging_face_folder_goes_along_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(&crime_and_punishment(), &path.join("hf"));
    let pieces = include_bytes!("../../datasets/tests/data/sentencepiece_bpe.model");
    fs::write(path.join("hf/spiece.model"), pieces).unwrap();

    let flags = ["--init-from", "hf", "--name", "tuned"];
    let text = printed(&run(TRAIN, path, &[&BRIEF[..], &STEPS, &flags].concat()));
    assert!(
        text.contains("spiece.model") && text.contains("bits per byte)"),
        "{text}"
    );
    printed(&run(REFORMER, path, &["convert", "runs/tuned", "out"]));
    assert!(path.join("out/tokenizer.json").exists());
    let prompt = ["--prompt", "A few months later"];
    let written = printed(&generate(path, "out", &prompt));
    assert!(written.starts_with("A few months later"), "{written}");
}

#[test]
fn runs_on_tokens_without_their_tokenizer_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    printed(&train(
        path,
        &["--tokenizer", "bpe:300", "--name", "pieces"],
    ));
    fs::remove_file(path.join("runs/pieces/subwords.json")).unwrap();
    let missing = ["subwords.json", "copy it back"];
    refused(
        &run(TRAIN, path, &["--resume", "runs/pieces", "--steps", "4"]),
        &missing,
    );
    refused(
        &train(path, &["--init-from", "runs/pieces", "--name", "other"]),
        &missing,
    );
    refused(&generate(path, "runs/pieces", &["--prompt", "A"]), &missing);
    assert!(!path.join("runs/other").exists());
    // Fewer pieces than were asked for would leave tokens that no text has.
    fs::write(path.join("short.txt"), "to be or not to be, ".repeat(100)).unwrap();
    refused(
        &train(
            path,
            &[
                "--data",
                "short.txt",
                "--tokenizer",
                "bpe:4000",
                "--name",
                "short",
            ],
        ),
        &["bpe:4000", "entries", "use bpe:"],
    );
}
