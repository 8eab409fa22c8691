//! Kernels that only CUDA has, on tensor cores, carried out by a CPU: `tests/cuda-on-cpu` has a driver that
//! compiles their CUDA text with g++. Each test is a process of its own, which loads that driver.
//!
//! `sh tests/cuda-on-cpu/run.sh` runs all laws of kernels so, in some minutes.

use std::fs;
use std::path::Path;
use std::process::Command;

use burn_cuda::Cuda;
use burn_flex::Flex;
use tempfile::TempDir;

use crate::suite::{Subject, half, layers, say};

/// Judged by the reference on the host.
struct AsCuda;

impl Subject for AsCuda {
    type Backend = Cuda;
    type Judge = Flex;
    const TOLERANCE: f64 = 2e-5;
    const THINNED: bool = true;

    fn take() -> Option<impl Sized> {
        Some(())
    }
}

/// Set where the driver is loaded.
const IS_LOADED: &str = "REFORMER_CUDA_ON_CPU";

#[test]
fn products_of_linear_layers() {
    carry_out("products_of_linear_layers", "multiply", || {
        layers::linear_layers_of_half_precision_have_wide_parameters::<AsCuda>();
    });
}

/// Long sequences take turns, and results the memory of what is spent.
#[test]
fn products_with_little_memory() {
    carry_out_with(LITTLE, "products_with_little_memory", "multiply", || {
        layers::linear_layers_of_half_precision_have_wide_parameters::<AsCuda>();
    });
}

#[test]
fn attention_with_little_memory() {
    carry_out_with(LITTLE, "attention_with_little_memory", "attend", || {
        half::padding_of_half_precision_is_near::<AsCuda>();
    });
}

#[test]
fn attention_with_padding() {
    carry_out("attention_with_padding", "attend", || {
        half::padding_of_half_precision_is_near::<AsCuda>();
    });
}

#[test]
fn full_attention() {
    carry_out("full_attention", "attend", || {
        half::full_half_precision_is_near::<AsCuda>();
    });
}

/// MiB of memory of the devices.
const ENOUGH: u32 = 16 << 10;
const LITTLE: u32 = 16;

/// Runs a law, in which a kernel of this name has to run, in a process that has loaded the driver: this one, or
/// another one of this test.
fn carry_out(test: &str, kernel: &str, law: impl FnOnce()) {
    carry_out_with(ENOUGH, test, kernel, law);
}

/// The same on a device with so many MiB of memory.
fn carry_out_with(memory: u32, test: &str, kernel: &str, law: impl FnOnce()) {
    if std::env::var_os(IS_LOADED).is_some() {
        return law();
    }
    let Some(folder) = driver() else {
        return say("SKIPPED: there is no g++, so no kernel runs as CUDA on a CPU");
    };
    let (folder, kernels) = (folder.path(), folder.path().join("kernels"));
    let ran = Command::new(std::env::current_exe().unwrap())
        .args([&format!("as_cuda::{test}"), "--exact", "--nocapture"])
        .env(IS_LOADED, "1")
        .env("LD_LIBRARY_PATH", folder)
        .env("CUDA_PATH", folder.join("cuda"))
        .env("EMU_CACHE", &kernels)
        .env("EMU_MEMORY", memory.to_string())
        .output()
        .unwrap();
    let [output, errors] = [ran.stdout, ran.stderr].map(|text| String::from_utf8(text).unwrap());
    let passed = ran.status.success() && output.contains("1 passed");
    assert!(passed, "{test} as CUDA on a CPU: {output}{errors}");
    let is_kernel = |file: fs::DirEntry| {
        let text = fs::read_to_string(file.path()).unwrap_or_default();
        text.contains(&format!("){kernel}_f_"))
    };
    let mut files = fs::read_dir(kernels).unwrap().map(Result::unwrap);
    assert!(files.any(is_kernel), "no kernel `{kernel}` ran");
}

/// A folder with the driver. `None` without g++.
fn driver() -> Option<TempDir> {
    Command::new("g++").arg("--version").output().ok()?;
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda-on-cpu/driver.sh");
    let made = Command::new("sh").arg(script).arg(folder.path()).status();
    assert!(made.unwrap().success(), "g++ compiles the driver");
    Some(folder)
}
