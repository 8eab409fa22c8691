//! Time and memory of steps and of tokens.

mod common;

use std::fs;
use std::path::Path;

use common::{printed, refused, run};

const GENERATION: &str = env!("CARGO_BIN_EXE_bench_generation");
const STEP: &str = env!("CARGO_BIN_EXE_bench_step");
const PLOT: &str = env!("CARGO_BIN_EXE_plot_steps");

#[cfg(target_os = "linux")]
#[test]
fn memory_is_compared_over_depth_and_bad_sizes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let step = |more: &str| {
        let small = "--length 256 --d-model 16 --n-heads 2 --d-head 8 --d-ff 32 --chunk-length 16 --steps 1";
        let arguments: Vec<&str> = small.split(' ').chain(more.split(' ')).collect();
        run(STEP, folder.path(), &arguments)
    };
    let table = printed(&step("--sweep-layers 1,2 --attention local,lsh"));
    assert_eq!(table.lines().count(), 6, "{table}");
    for row in [
        "| reversible | 1 | ",
        "| reversible | 2 | ",
        "| plain | 2 | ",
    ] {
        assert!(table.contains(row), "{table}");
    }
    let json = printed(&step(
        "--sweep-layers 2 --sweep-modes ordinary --attention local,lsh --json",
    ));
    let measured: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(measured["settings"]["mode"], "ordinary");
    assert_eq!(measured["settings"]["layers"], 2);
    assert_eq!(measured["settings"]["batch_size"], 1);
    assert_eq!(measured["settings"]["chunk_length"], 16);
    assert_eq!(measured["settings"]["attention"], "local,lsh");
    assert!(measured["peak_mib"].as_f64().unwrap() > 1.0, "{json}");

    let failed = step("--sweep-layers 1,0");
    refused(&failed, &["layers 0, mode reversible", "`n_layers` is 0"]);
    let table = String::from_utf8_lossy(&failed.stdout);
    assert!(
        table.contains("| reversible | 1 | "),
        "what was measured is kept: {table}"
    );
    for (arguments, parts) in [
        (
            "--sweep-layers 1 --batch-size 0",
            ["`--batch-size` is 0", "raise it"],
        ),
        (
            "--sweep-layers 1 --attention transformer",
            ["Transformer has no modes", "`--layers`"],
        ),
        (
            "--attention transformer,lsh",
            ["one kind of attention", "alone"],
        ),
        (
            "--sweep-layers 1,2,1",
            ["`--sweep-layers` has 1 more than once", "give it once"],
        ),
        (
            "--sweep-layers 1 --sweep-modes plain,plain",
            ["`--sweep-modes` has plain more than once", "give it once"],
        ),
    ] {
        refused(&step(arguments), &parts);
    }
    for conflict in ["--layers 1", "--mode plain"] {
        let output = step(&format!("--sweep-layers 1 {conflict}"));
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
    assert_eq!(step("--sweep-modes plain").status.code(), Some(2));
}

#[test]
fn steps_are_timed_on_every_device_and_plotted() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines = String::new();
    for (device, attention, mode) in [
        ("flex", "lsh", "reversible"),
        #[cfg(feature = "ndarray")]
        ("ndarray", "local", "exact"),
        #[cfg(not(feature = "ndarray"))]
        ("flex", "local", "exact"),
        ("flex", "full", "plain"),
    ] {
        let settings = [
            "--length",
            "130",
            "--layers",
            "1",
            "--d-model",
            "32",
            "--n-heads",
            "2",
            "--d-head",
            "16",
            "--d-ff",
            "64",
            "--chunk-length",
            "16",
            "--steps",
            "1",
            "--threads",
            "2",
            "--window-kind",
            "bucket",
            "--json",
            "--device",
            device,
            "--attention",
            attention,
            "--mode",
            mode,
        ];
        let output = run(STEP, folder.path(), &settings);
        assert!(output.status.success(), "{output:?}");
        lines += core::str::from_utf8(&output.stdout).unwrap();
    }
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    for key in [
        "seconds",
        "tokens_per_second",
        "peak_mib",
        "gflop",
        "gemm_gflops",
    ] {
        assert!(first[key].as_f64().unwrap() > 0.0, "{key}: {first}");
    }
    assert_eq!(first["settings"]["attention"], "lsh");
    assert_eq!(first["settings"]["threads"], 2);

    fs::write(folder.path().join("steps.jsonl"), &lines).unwrap();
    let output = run(PLOT, folder.path(), &["steps.jsonl", "--svg", "steps.svg"]);
    assert!(output.status.success(), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(table.lines().count(), 5, "{table}");
    assert!(folder.path().join("steps.svg").exists());
}

#[test]
fn published_steps_are_plotted_as_they_were() {
    let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benchmarks/steps");
    let folder = tempfile::tempdir().unwrap();
    let lines = published.join("steps.jsonl").display().to_string();
    let table = printed(&run(PLOT, folder.path(), &[&lines, "--svg", "steps.svg"]));
    let expected = fs::read_to_string(published.join("steps.md")).unwrap();
    assert_eq!(table, expected);
    let picture = fs::read_to_string(folder.path().join("steps.svg")).unwrap();
    for kind in ["lsh", "local", "full"] {
        assert!(picture.contains(kind), "{kind}");
    }
}

#[test]
fn what_cannot_be_timed_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(STEP, folder.path(), &["--steps", "0"]);
    assert!(!output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        message,
        "error: `--steps` is 0, but it must be at least 1: raise it\n"
    );
    let output = run(PLOT, folder.path(), &["nothing.jsonl"]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.starts_with("error: `nothing.jsonl` cannot be read"),
        "{message}"
    );
}

#[test]
fn time_of_a_token_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let small = [
        "--contexts",
        "40,80",
        "--tokens",
        "3",
        "--layers",
        "2",
        "--d-model",
        "16",
        "--n-heads",
        "2",
        "--attention",
        "lsh,local",
        "--json",
    ];
    let lines = printed(&run(GENERATION, folder.path(), &small));
    assert_eq!(lines.lines().count(), 2, "{lines}");
    for line in lines.lines() {
        let measured: serde_json::Value = serde_json::from_str(line).unwrap();
        for key in ["token_ms", "prefill_seconds", "cache_mib", "ratio"] {
            assert!(measured[key].as_f64().unwrap() > 0.0, "{key}: {line}");
        }
    }
    refused(
        &run(GENERATION, folder.path(), &["--tokens", "0"]),
        &["`--tokens` is 0"],
    );
    // Where the free memory is known.
    #[cfg(target_os = "linux")]
    for (arguments, what) in [
        (
            "--contexts 16000000 --batch-size 1024",
            "1024 contexts of 16000000 tokens, to be read, need about",
        ),
        (
            "--contexts 8 --batch-size 1024 --tokens 16000000",
            "1024 sequences of 16000009 tokens at a time need about",
        ),
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        refused(
            &run(GENERATION, folder.path(), &arguments),
            &[what, "MiB are left: lower `--contexts`, `--batch-size`"],
        );
    }
}
