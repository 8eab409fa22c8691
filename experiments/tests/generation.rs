//! Texts of trained models: prompts, Hugging Face folders, the model that ships.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::hugging_face::{crime_and_punishment, enwik8, write};
use common::{printed, refused, run, run_with};
use reformer_core::huggingface::HuggingFaceConfig;

const TEXT: &str = env!("CARGO_BIN_EXE_generate_text");
const EVALUATE: &str = env!("CARGO_BIN_EXE_evaluate");
const INSPECT: &str = env!("CARGO_BIN_EXE_inspect");

fn text(folder: &Path, arguments: &[&str]) -> Output {
    run(TEXT, folder, &[&["--checkpoint", "."], arguments].concat())
}

#[test]
fn bytes_of_a_hugging_face_folder_are_continued() {
    let folder = tempfile::tempdir().unwrap();
    write(&enwik8(), folder.path());
    // The chunk of 32 is passed on the way.
    let write = |seed| {
        let arguments = ["--prompt", "In 1965, ", "--tokens", "60", "--seed", seed];
        printed(&text(folder.path(), &arguments))
    };
    assert!(write("1").starts_with("In 1965, "));
    assert_eq!(write("1"), write("1"));
    assert_ne!(write("1"), write("2"));

    let prompts = ["--prompt", "In 1965, ", "--prompt", "B", "--tokens", "12"];
    let several = printed(&text(
        folder.path(),
        &[&prompts[..], &["--samples", "2"]].concat(),
    ));
    assert_eq!(
        several.matches("--- prompt 1, continuation").count(),
        2,
        "{several}"
    );
    assert_eq!(
        several.matches("--- prompt 2, continuation").count(),
        2,
        "{several}"
    );
    let searched = printed(&text(
        folder.path(),
        &[&prompts[..], &["--beam-size", "3"]].concat(),
    ));
    assert_eq!(
        searched.matches("--- prompt 2, number").count(),
        3,
        "{searched}"
    );

    let long = "x".repeat(500);
    refused(
        &text(folder.path(), &["--prompt", &long, "--tokens", "20"]),
        &["519 tokens are more than the 512", "positions"],
    );
    refused(
        &text(folder.path(), &["--prompt", ""]),
        &["`--prompt` is empty"],
    );
    refused(
        &text(folder.path(), &["--prompt", "x", "--tokens", "0"]),
        &["0 tokens were asked for"],
    );
    refused(
        &text(folder.path(), &["--prompt", "x", "--top-p", "2"]),
        &["`--top-p` is 2"],
    );
    refused(
        &text(folder.path(), &["--prompt", "x", "--beam-size", "0"]),
        &["`--beam-size` is 0", "at least 1: raise it"],
    );
}

#[test]
fn the_model_that_ships_can_be_tried_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let text = ["--prompt", "ROMEO:", "--tokens", "30", "--temperature", "0"];
    let output = run(TEXT, path, &text);
    assert!(
        printed(&output).starts_with("ROMEO:\n"),
        "it knows how a speech begins"
    );
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("the model that ships"), "{told}");
    // What its README says.
    let json = ["--json", "scores.json"];
    let told = printed(&run(EVALUATE, path, &json));
    assert!(
        told.contains("Measuring on 96 sequences of at most 256 tokens"),
        "{told}"
    );
    let scores = fs::read(path.join("scores.json")).unwrap();
    let scores: serde_json::Value = serde_json::from_slice(&scores).unwrap();
    let bits = scores["bits"].as_f64().unwrap();
    assert!((bits - 2.148).abs() < 2e-3, "{bits}");
    fs::write(
        path.join("a.txt"),
        "\u{feff}To be,\r\nor not to be: that is the question.",
    )
    .unwrap();
    printed(&run(INSPECT, path, &["--input", "a.txt"]));
    let json = fs::read_to_string(path.join("inspect.json")).unwrap();
    assert!(
        !json.contains("\\r") && !json.contains('\u{feff}'),
        "byte order marks are not text"
    );
}

#[test]
fn prompts_are_files_and_pipes() {
    let folder = tempfile::tempdir().unwrap();
    write(&enwik8(), folder.path());
    let few = ["--tokens", "10"];
    let told = printed(&text(
        folder.path(),
        &[&["--prompt", "In 1965, "], &few[..]].concat(),
    ));
    fs::write(folder.path().join("prompt.txt"), "In 1965, ").unwrap();
    let file = ["--prompt-file", "prompt.txt", "--verbose"];
    let output = text(folder.path(), &[&file, &few[..]].concat());
    assert_eq!(printed(&output), told);
    let cost = String::from_utf8_lossy(&output.stderr);
    for part in ["9 tokens read, the first new one after", "the cache takes"] {
        assert!(cost.contains(part), "{part}: {cost}");
    }
    let piped = "--checkpoint . --prompt-file - --tokens 10";
    let output = run_with(TEXT, folder.path(), piped, "In 1965, ");
    assert_eq!(printed(&output), told);
    // Bytes that are not UTF-8 are kept, and several prompts come in order.
    fs::write(folder.path().join("bytes"), [0xff, 0xfe, 0x00]).unwrap();
    let both = ["--prompt", "A", "--prompt-file", "bytes"];
    let output = printed(&text(folder.path(), &[&both, &few[..]].concat()));
    assert!(
        output.contains("--- prompt 1, continuation 1\nA"),
        "{output}"
    );
    assert!(output.contains("--- prompt 2"), "{output}");

    fs::write(folder.path().join("empty"), "").unwrap();
    let refuse = |file: &str, parts: &[&str]| {
        refused(&text(folder.path(), &["--prompt-file", file]), parts);
    };
    refuse("empty", &["`empty` is empty"]);
    refuse("none", &["`none` cannot be read"]);
    refuse(".", &["`.` cannot be read"]);
    if Path::new("/dev/zero").exists() {
        refuse(
            "/dev/zero",
            &["`/dev/zero` has more than the 16777216 bytes"],
        );
    }
    fs::write(folder.path().join("long"), "A".repeat(600)).unwrap();
    refuse("long", &["512", "positions"]);
}

#[test]
fn pieces_of_a_hugging_face_folder_are_continued() {
    let folder = tempfile::tempdir().unwrap();
    write(&crime_and_punishment(), folder.path());
    let pieces = include_bytes!("../../datasets/tests/data/sentencepiece_bpe.model");
    fs::write(folder.path().join("spiece.model"), pieces).unwrap();
    let arguments = ["--prompt", "A few months later", "--tokens", "40"];
    let found = printed(&text(folder.path(), &arguments));
    assert!(found.starts_with("A few months later"), "{found}");
    assert!(!found.contains('\u{2581}'), "spaces are spaces: {found}");

    // Another tokenizer than that of the model.
    let folder = tempfile::tempdir().unwrap();
    let smaller = HuggingFaceConfig {
        vocab_size: 300,
        ..crime_and_punishment()
    };
    write(&smaller, folder.path());
    fs::write(folder.path().join("spiece.model"), pieces).unwrap();
    refused(
        &text(
            folder.path(),
            &["--prompt", "A few months later: zxq", "--tokens", "5"],
        ),
        &["is outside of the vocabulary of 300", "tokenizer"],
    );
    fs::write(folder.path().join("spiece.model"), "something").unwrap();
    refused(
        &text(folder.path(), &["--prompt", "A"]),
        &["spiece.model", "is not a model of SentencePiece"],
    );
    fs::remove_file(folder.path().join("spiece.model")).unwrap();
    refused(
        &text(folder.path(), &["--prompt", "A"]),
        &["no spiece.model or tokenizer.json, and 300 tokens are not bytes"],
    );
}

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let names = ["chromium", "chromium-browser", "google-chrome"];
    path.or_else(|| {
        let path = std::env::var_os("PATH")?;
        let mut files = names
            .iter()
            .flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)));
        files.find(|file| file.is_file())
    })
}

/// Points at the fortieth token.
const POINT: &str = r#"<script>
document.querySelector("[data-position='40']").dispatchEvent(new Event("pointerover", { bubbles: true }));
</script></body>"#;

#[test]
fn text_is_inspected() {
    let folder = tempfile::tempdir().unwrap();
    write(&enwik8(), folder.path());
    let letters = "To be, or not to be: that is the question.\n".repeat(3);
    fs::write(folder.path().join("text.txt"), &letters).unwrap();
    let inspect = |arguments: &[&str]| {
        run(
            INSPECT,
            folder.path(),
            &[&["--checkpoint", "."], arguments].concat(),
        )
    };
    let told = printed(&inspect(&[
        "--input",
        "text.txt",
        "--tokens",
        "100",
        "--weights",
        "5",
    ]));
    assert!(told.contains("100 tokens · layer 3 finds"), "{told}");

    let json = fs::read(folder.path().join("inspect.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let tokens: Vec<&str> = json["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token.as_str().unwrap())
        .collect();
    assert_eq!(tokens.concat(), letters[..100]);
    let heads = json["layers"][0]["heads"].as_array().unwrap();
    assert_eq!(heads.len(), 2);
    for head in heads {
        assert_eq!(head["buckets"].as_array().unwrap().len(), 4);
        assert_eq!(head["weights"].as_array().unwrap().len(), 100);
        for (position, weights) in head["weights"].as_array().unwrap().iter().enumerate() {
            let weights = weights.as_array().unwrap();
            assert!((1..=5).contains(&weights.len()));
            assert!(
                weights
                    .iter()
                    .all(|w| w[0].as_u64().unwrap() <= position as u64)
            );
        }
    }
    refused(
        &inspect(&["--input", "none.txt"]),
        &["`none.txt` cannot be read"],
    );
    refused(
        &inspect(&["--input", "text.txt", "--tokens", "0"]),
        &["nothing to inspect"],
    );

    let Some(browser) = browser() else {
        eprintln!("SKIPPED: there is no Chromium in PATH or CHROMIUM, so no page was opened");
        return;
    };
    let page = folder.path().join("inspect.html");
    let html = fs::read_to_string(&page).unwrap().replace("</body>", POINT);
    fs::write(&page, html).unwrap();
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--virtual-time-budget=3000", "--dump-dom"])
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout);
    assert!(!dom.contains("data-error"), "the script failed: {dom}");
    assert!(dom.contains("data-tokens=\"100\""));
    assert_eq!(dom.matches("class=\"chosen\"").count(), 1);
    assert!(dom.contains("at position 40: finds"));
}
