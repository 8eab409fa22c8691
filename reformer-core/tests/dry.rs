//! What a training step asks of a CUDA driver, with a driver that only counts: `benchmarks/gpu/dry`.
//! Needs g++ and Python, and the example `dry`, which `cargo test` builds.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Most launches of a layer in a step, forward, recomputation and backward; and of loss and embedding.
const OF_LAYER: u64 = 86;
const OF_THE_REST: u64 = 60;

/// Counts a step of a small model. `None`, aloud, if it cannot be counted here.
fn count(settings: &[&str]) -> Option<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // Beside the folder of this test.
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent()?.parent()?.join("examples/dry");
    let tools = ["g++", "python3"];
    let is_there = |tool: &&str| Command::new(tool).arg("--version").output().is_ok();
    if !program.exists() || !tools.iter().all(is_there) {
        eprintln!("SKIPPED: without the example `dry`, g++ and python3 nothing is counted");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let counted = Command::new("sh")
        .arg(root.join("benchmarks/gpu/dry/run.sh"))
        .arg(folder.path())
        .args(["WIDTH=256", "HEADS=4"])
        .args(settings)
        .env("DRY_PROGRAM", program)
        .output()
        .unwrap();
    let (output, errors) = (
        String::from_utf8_lossy(&counted.stdout),
        String::from_utf8_lossy(&counted.stderr),
    );
    assert!(counted.status.success(), "{errors}");
    Some(serde_json::from_str(output.lines().next().unwrap()).unwrap())
}

#[test]
fn a_step_is_a_queue_of_few_launches() {
    for precision in ["PRECISION=bf16", "PRECISION=f16"] {
        let Some(counts) = count(&["LENGTH=8192", precision]) else {
            return;
        };
        assert_eq!(counts["read_back"], 0, "{precision}: {counts}");
        assert_eq!(counts["bad_launches"], 0, "{precision}: {counts}");
        for (part, most) in [("layer", OF_LAYER), ("rest", OF_THE_REST)] {
            let launches = counts[part]["launches"].as_u64().unwrap();
            assert!(launches <= most, "{precision}, {part}: {launches} launches");
        }
    }
}

/// Hash rotations grow with the number of buckets, and nothing with the length itself.
#[test]
fn nothing_that_grows_with_the_length_is_uploaded() {
    let uploaded = |length| {
        let counts = count(&[&format!("LENGTH={length}")])?;
        counts["uploaded_bytes_layer"].as_u64()
    };
    let (Some(short), Some(long)) = (uploaded(8192), uploaded(65_536)) else {
        return;
    };
    assert!(
        long < 4 * short,
        "{short} bytes a layer, and {long} for eight times the length"
    );
}
