//! Folders of Hugging Face: measured, converted, and what is wrong with them.

mod common;

use std::fs;
use std::path::Path;
use std::process::Output;

use burn::module::Module;
use burn::record::Recorder;
use burn::tensor::{ElementConversion, Int, Tensor, TensorData};
use burn_flex::Flex;
use common::hugging_face::{crime_and_punishment, enwik8, write};
use common::{printed, refused, run};
use reformer_core::Pass;
use reformer_core::huggingface::{self, HuggingFaceConfig};
use reformer_core::model::Loss;
use reformer_train::inference::Codec;
use reformer_train::record::AtomicRecorder;
use reformer_train::{Model, load_model};
use serde_json::Value;

const REFORMER: &str = env!("CARGO_BIN_EXE_reformer");
const TEXT: &str = env!("CARGO_BIN_EXE_generate_text");
const EVALUATE: &str = env!("CARGO_BIN_EXE_evaluate");
const INSPECT: &str = env!("CARGO_BIN_EXE_inspect");
const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/shakespeare");

fn text(folder: &Path, arguments: &[&str]) -> Output {
    run(TEXT, folder, &[&["--checkpoint", "."], arguments].concat())
}

fn evaluate(folder: &Path, arguments: &[&str]) -> Output {
    run(
        EVALUATE,
        folder,
        &[&["--checkpoint", "."], arguments].concat(),
    )
}

fn scores(folder: &Path, text: &str, arguments: &[&str]) -> (String, Value) {
    let own = ["--data", text, "--json", "scores.json"];
    let told = printed(&evaluate(folder, &[&own, arguments].concat()));
    let json = fs::read(folder.join("scores.json")).expect("it was written");
    (told, serde_json::from_slice(&json).expect("it is JSON"))
}

/// The mean loss of adjacent windows.
fn loss(folder: &Path, ids: &[u32], length: usize) -> f64 {
    let device = Default::default();
    let (model, _) = huggingface::load::<Flex>(folder, &device).expect("it was saved");
    let n_windows = (ids.len() - 1) / length;
    let rows = |start: usize| {
        let ids = &ids[start..start + n_windows * length];
        let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
        Tensor::<Flex, 2, Int>::from_data(TensorData::new(ids, [n_windows, length]), &device)
    };
    let loss = model.loss((rows(0), rows(1)), &Pass::eval());
    loss.loss.into_scalar().elem()
}

#[test]
fn bytes_of_a_text_are_measured_in_the_ids_of_generation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(&enwik8(), path);
    // With the byte order mark of an editor.
    let config = fs::read_to_string(path.join("config.json")).unwrap();
    fs::write(path.join("config.json"), format!("\u{feff}{config}")).unwrap();
    let text = "In 1965, a word.\n".repeat(12);
    fs::write(path.join("text.txt"), &text).unwrap();
    let (told, found) = scores(path, "text.txt", &["--length", "64"]);
    for part in [
        "text.txt: 1 file, 204 tokens",
        "Measuring on 3 sequences of at most 64 tokens",
        "a language model on 192 bytes: ",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let ids: Vec<u32> = text.bytes().map(|byte| u32::from(byte) + 2).collect();
    let expected = loss(path, &ids, 64);
    let near = |name: &str, expected: f64| {
        let value = found[name].as_f64().unwrap();
        assert!(
            (value - expected).abs() < 1e-5,
            "{name}: {value} {expected}"
        );
    };
    near("loss", expected);
    near("bits", expected / std::f64::consts::LN_2);
    assert_eq!(found["unit"], "byte");
    assert!(found.get("bits_per_byte").is_none());

    // As many as there are, at most as many as the model has positions for.
    let (told, _) = scores(path, "text.txt", &[]);
    assert!(
        told.contains("on 1 sequences of at most 203 tokens"),
        "{told}"
    );
    fs::create_dir(path.join("texts")).unwrap();
    for name in ["a.txt", "b.txt", "c.txt", "d.txt", "e.txt", "f.txt"] {
        fs::write(path.join("texts").join(name), &text).unwrap();
    }
    let (told, _) = scores(path, "texts", &["--eval-windows", "1"]);
    assert!(
        told.contains("on 1 sequences of at most 512 tokens"),
        "{told}"
    );
}

#[test]
fn tokens_are_measured_in_bytes_of_the_text_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(&crime_and_punishment(), path);
    let pieces = include_bytes!("../../datasets/tests/data/sentencepiece_bpe.model");
    fs::write(path.join("spiece.model"), pieces).unwrap();
    let text = "A few months later they met again in the street. ".repeat(8);
    fs::write(path.join("text.txt"), &text).unwrap();
    let ids = Codec::of_folder(path, 400).unwrap().encode(&text).unwrap();
    let (told, found) = scores(path, "text.txt", &["--length", "48"]);
    let n_targets = (ids.len() - 1) / 48 * 48;
    let unit = format!("a language model on {n_targets} tokens: ");
    assert!(
        told.contains(&unit) && told.contains(" bits per byte"),
        "{told}"
    );
    let number = |name: &str| found[name].as_f64().unwrap();
    assert!((number("loss") - loss(path, &ids, 48)).abs() < 1e-5);
    let expected = number("bits") * ids.len() as f64 / text.len() as f64;
    assert!((number("bits_per_byte") - expected).abs() < 1e-9);

    fs::write(path.join("bytes"), [0xff; 100]).unwrap();
    refused(
        &evaluate(path, &["--data", "bytes"]),
        &["`bytes`", "not UTF-8"],
    );
    // Another tokenizer than that of the model.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let smaller = HuggingFaceConfig {
        vocab_size: 300,
        ..crime_and_punishment()
    };
    write(&smaller, path);
    fs::write(path.join("spiece.model"), pieces).unwrap();
    fs::write(path.join("text.txt"), "A few months later: zxq").unwrap();
    refused(
        &evaluate(path, &["--data", "text.txt"]),
        &["`text.txt`", "outside of the vocabulary of 300"],
    );
    fs::remove_file(path.join("spiece.model")).unwrap();
    refused(
        &evaluate(path, &["--data", "text.txt"]),
        &["no spiece.model or tokenizer.json, and 300 tokens are not bytes"],
    );
}

#[test]
fn measurements_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(&enwik8(), path);
    fs::write(path.join("text.txt"), "In 1965, ").unwrap();
    fs::write(path.join("letter"), "I").unwrap();
    for (arguments, parts) in [
        (&[][..], &["one text, and 0 were given", "`--data`"][..]),
        (&["--data", "text.txt", "letter"], &["2 were given"]),
        (&["--data", "none"], &["`none`"]),
        (&["--data", "letter"], &["`letter` has 1 tokens"]),
        (
            &["--data", "text.txt", "--length", "0"],
            &["`--length` is 0"],
        ),
        (
            &["--data", "text.txt", "--length", "513"],
            &["`--length` is 513", "at most 512"],
        ),
        (
            &["--data", "text.txt", "--length", "9"],
            &["has 9 tokens", "needs 10", "lower `--length`"],
        ),
        (
            &["--data", "text.txt", "--eval-windows", "0"],
            &["`--eval-windows` is 0"],
        ),
    ] {
        refused(&evaluate(path, arguments), parts);
    }
    let of_run = ["--checkpoint", SHIPPED, "--length", "64"];
    refused(
        &run(EVALUATE, path, &of_run),
        &["`--length` is 64", "a run", "leave it out"],
    );

    let config = path.join("config.json");
    let own = fs::read_to_string(&config).unwrap();
    let mut other: Value = serde_json::from_str(&own).unwrap();
    other["architectures"] = serde_json::json!(["ReformerForSequenceClassification"]);
    fs::write(&config, other.to_string()).unwrap();
    refused(
        &evaluate(path, &["--data", "text.txt"]),
        &["has another head", "only language models"],
    );
    let folder = tempfile::tempdir().unwrap();
    let both_sides = HuggingFaceConfig {
        is_decoder: false,
        ..enwik8()
    };
    write(&both_sides, folder.path());
    fs::write(folder.path().join("text.txt"), "In 1965, ").unwrap();
    refused(
        &evaluate(folder.path(), &["--data", "text.txt"]),
        &["is not causal"],
    );
}

#[test]
fn weights_that_are_no_numbers_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let device = Default::default();
    fs::write(path.join("text.txt"), "In 1965, ").unwrap();

    let config = enwik8().to_config().unwrap();
    let mut model = config.init::<Flex>(&device);
    model.reformer.norm.gamma = model.reformer.norm.gamma.map(|gamma| gamma * f32::NAN);
    huggingface::save(&model, &config, &path.join("hf")).unwrap();

    let run_folder = path.join("run");
    fs::create_dir(&run_folder).unwrap();
    let config = Path::new(SHIPPED).join("config.json");
    fs::copy(config, run_folder.join("config.json")).unwrap();
    let (model, _) = load_model::<Flex>(Path::new(SHIPPED), &device).unwrap();
    let mut model = model.into_lm().unwrap();
    model.reformer.norm.gamma = model.reformer.norm.gamma.map(|gamma| gamma * f32::INFINITY);
    let record = Model::Lm(model).into_record();
    let weights = run_folder.join("model");
    Recorder::<Flex>::record(&AtomicRecorder::default(), record, weights).unwrap();

    for name in ["hf", "run"] {
        let parts = [
            "`reformer.norm.gamma` has weights that are not finite",
            &format!("`{name}`"),
        ];
        let told = |program: &str, arguments: &[&str]| {
            let arguments = [&["--checkpoint", name], arguments].concat();
            refused(&run(program, path, &arguments), &parts);
        };
        told(TEXT, &["--prompt", "A"]);
        told(EVALUATE, &["--data", "text.txt"]);
        told(INSPECT, &["--text", "text.txt"]);
        refused(&run(REFORMER, path, &["convert", name, "copy"]), &parts);
    }
}

#[test]
fn models_are_converted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(&enwik8(), &path.join("a"));
    fs::write(path.join("a/tokenizer_config.json"), "{}").unwrap();
    let convert = |from: &str, to: &str| run(REFORMER, path, &["convert", from, to]);
    printed(&convert("a", "b"));
    for name in ["model.safetensors", "config.json", "tokenizer_config.json"] {
        let [a, b] = ["a", "b"].map(|of| fs::read(path.join(of).join(name)).unwrap());
        assert!(a == b, "{name}");
    }
    refused(&convert("a", "b"), &["exists", "nothing was written"]);
    // A file of the tokenizer, although nothing else is there.
    fs::create_dir(path.join("d")).unwrap();
    fs::write(path.join("d/tokenizer_config.json"), "mine").unwrap();
    refused(
        &convert("a", "d"),
        &[
            "`d/tokenizer_config.json` exists already",
            "nothing was written",
        ],
    );
    assert_eq!(fs::read_dir(path.join("d")).unwrap().count(), 1);
    refused(
        &convert("none", "c"),
        &["`none` is not the folder of a run"],
    );
    // The model that ships is of a kind that Hugging Face does not have.
    refused(
        &convert(SHIPPED, "c"),
        &["Hugging Face has no model like", "local round"],
    );
    assert!(!path.join("c").exists());
}

#[test]
fn folders_of_other_models_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let both_sides = HuggingFaceConfig {
        is_decoder: false,
        ..enwik8()
    };
    write(&both_sides, folder.path());
    refused(
        &text(folder.path(), &["--prompt", "A"]),
        &["sees both directions"],
    );

    let config = folder.path().join("config.json");
    let other = fs::read_to_string(&config)
        .unwrap()
        .replace("\"reformer\"", "\"bert\"");
    fs::write(&config, other).unwrap();
    refused(
        &text(folder.path(), &["--prompt", "A"]),
        &["model_type is \"bert\""],
    );

    let wider = HuggingFaceConfig {
        feed_forward_size: 65,
        ..enwik8()
    };
    fs::write(&config, serde_json::to_string(&wider).unwrap()).unwrap();
    refused(
        &text(folder.path(), &["--prompt", "A"]),
        &["does not fit its config.json"],
    );
}

#[test]
fn losses_that_are_no_numbers_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("text.txt"), "In 1965, ").unwrap();
    let config = enwik8().to_config().unwrap();
    let mut model = config.init::<Flex>(&Default::default());
    model.output.weight = model.output.weight.map(|weight| weight * 0.0 + 3e38);
    huggingface::save(&model, &config, &path.join("hf")).unwrap();
    let arguments = [
        "--checkpoint",
        "hf",
        "--data",
        "text.txt",
        "--json",
        "scores.json",
    ];
    refused(
        &run(EVALUATE, path, &arguments),
        &["the loss is", "weights are damaged"],
    );
    assert!(!path.join("scores.json").exists());
    refused(
        &run(TEXT, path, &["--checkpoint", "hf", "--prompt", "A"]),
        &["logits are not finite"],
    );
}
