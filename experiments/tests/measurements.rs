//! Time and memory of steps and of tokens.

mod common;

use std::fs;
use std::path::Path;

use common::{printed, refused, run};

const GENERATION: &str = env!("CARGO_BIN_EXE_bench_generation");
#[cfg(target_os = "linux")]
const MEMORY: &str = env!("CARGO_BIN_EXE_bench_memory");
const STEP: &str = env!("CARGO_BIN_EXE_bench_step");
const PLOT: &str = env!("CARGO_BIN_EXE_plot_steps");

#[cfg(target_os = "linux")]
#[test]
fn memory_of_a_step_is_printed_and_bad_sizes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let memory = |arguments: &[&str]| run(MEMORY, folder.path(), arguments);
    let small = ["--length", "256", "--d-model", "16", "--mode", "reversible"];
    let json = printed(&memory(
        &[&small[..], &["--json", "--layers", "2"]].concat(),
    ));
    assert!(json.contains("\"peak_bytes\""), "{json}");
    let table = printed(&memory(&small));
    assert!(table.contains("| reversible | 4 | "), "{table}");
    refused(&memory(&["--length", "0"]), &["`--length` is 0"]);
    refused(&memory(&["--layers", "0"]), &["`n_layers` is 0"]);
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
}
