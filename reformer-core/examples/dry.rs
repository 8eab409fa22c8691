//! Training steps with a driver that logs its calls instead of executing them: see
//! `benchmarks/gpu/dry`. It also runs on a real GPU and prints the duration of each step.
//!
//! Settings come from the environment: `LENGTH` (65536), `WIDTH` (512), `HEADS` (8), `DEPTH` (1), `ROUNDS`
//! (4), `CHUNK` (64), `WINDOW` (`bucket` or `chunk`), `POSITION` (`rotary` or `none`), `PRECISION` (`bf16`,
//! `f16` or `full`), `FF_CHUNK` (4096), `LOSS_CHUNK` (2048), `DROPOUT` (0), `STEPS` (2). Lines about steps
//! go to `$DRY_OUT/log`, between those of the driver.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write;
use std::str::FromStr;
use std::time::Instant;

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use burn_autodiff::Autodiff;
use burn_cuda::Cuda;
use reformer_core::attention::{AttentionKind, ExactUpTo, LshConfig, Window};
use reformer_core::kernels::Duplicates;
use reformer_core::model::{ReformerConfig, ReformerLmConfig, Trainable};
use reformer_core::position::PositionConfig;
use reformer_core::{Key, Pass, Precision};

type Training = Autodiff<Cuda>;
type Gpu = Cuda;

/// A setting, or `otherwise` if it is not set.
fn setting<T: FromStr>(name: &str, otherwise: T) -> Result<T, String> {
    match std::env::var(name) {
        Ok(value) => value
            .parse()
            .map_err(|_| format!("{name} is {value:?}, which is none of its values")),
        Err(_) => Ok(otherwise),
    }
}

/// One of the named values of a setting; the first one if it is not set.
fn choice<T: Clone>(name: &str, values: &[(&str, T)]) -> Result<T, String> {
    let given = setting(name, values[0].0.to_string())?;
    let found = values.iter().find(|(value, _)| *value == given);
    found.map(|(_, value)| value.clone()).ok_or_else(|| {
        let names: Vec<_> = values.iter().map(|(value, _)| *value).collect();
        format!("{name} is {given:?}: use one of {}", names.join(", "))
    })
}

fn config() -> Result<ReformerLmConfig, String> {
    let length = setting("CHUNK", 64)?;
    let chunks = Window::Chunk {
        before: 1,
        after: 0,
        within_bucket: false,
    };
    let (window, duplicates) = choice(
        "WINDOW",
        &[
            (
                "bucket",
                (Window::Bucket { len: length }, Duplicates::Exact),
            ),
            ("chunk", (chunks, Duplicates::Keep)),
        ],
    )?;
    let lsh = LshConfig::new()
        .with_n_rounds(setting("ROUNDS", 4)?)
        .with_chunk_length(length)
        .with_window(window)
        .with_duplicates(duplicates)
        .with_exact_up_to(ExactUpTo::Never);
    let rotary = PositionConfig::Rotary { base: 10_000.0 };
    let positions = [("rotary", rotary), ("none", PositionConfig::None)];
    let precisions = [
        ("bf16", Precision::Bf16),
        ("f16", Precision::F16),
        ("full", Precision::Full),
    ];
    let reformer = ReformerConfig::new(256, setting("WIDTH", 512)?, setting("DEPTH", 1)?)
        .with_n_heads(setting("HEADS", 8)?)
        .with_layers(vec![AttentionKind::Lsh])
        .with_lsh(lsh)
        .with_position(choice("POSITION", &positions)?)
        .with_dropout(setting("DROPOUT", 0.0)?)
        .with_ff_chunk_length(Some(setting("FF_CHUNK", 4096)?))
        .with_precision(choice("PRECISION", &precisions)?);
    let config =
        ReformerLmConfig::new(reformer).with_loss_chunk_length(setting("LOSS_CHUNK", 2048)?);
    config.validate().map_err(|error| error.to_string())?;
    Ok(config)
}

/// Writes a line to the driver's log.
fn mark(line: &str) -> Result<(), Box<dyn Error>> {
    if let Ok(folder) = std::env::var("DRY_OUT") {
        let mut log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(format!("{folder}/log"))?;
        writeln!(log, "# {line}")?;
    }
    eprintln!("{line}");
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let device = Default::default();
    let model = config()?.init::<Training>(&device);
    let length = setting("LENGTH", 65_536)?;
    // Bytes in no order that repeats: equal ones would all share a bucket.
    let bytes: Vec<i32> = (0..length as u64)
        .map(|i| (i.wrapping_mul(i).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as i32)
        .collect();
    let tokens =
        Tensor::<Training, 2, Int>::from_data(TensorData::new(bytes, [1, length]), &device);
    for step in 0..setting("STEPS", 2)? {
        mark(&format!("step {step}"))?;
        let start = Instant::now();
        let pass = Pass::train(Key::new(42).fold(step));
        let (loss, gradients) = model.gradients((tokens.clone(), tokens.clone()), pass);
        mark(&format!("queued {step} {:?}", start.elapsed()))?;
        drop((loss, gradients));
        <Gpu as Backend>::sync(&device)?;
        mark(&format!("end {step} {:?}", start.elapsed()))?;
    }
    Ok(())
}
