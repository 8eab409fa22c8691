//! The trainings of a task at each scale.

use std::path::PathBuf;

use anyhow::Result;
use reformer_datasets::long_range::LongRangeTask;
use reformer_train::data::LongRangeConfig;
use reformer_train::{DataConfig, TrainConfig};

use crate::cli::overrides;
use crate::cli::preset;
use crate::study::Scale;
use crate::training::long_range::{data, fill_length, fit_model, set_defaults};

const SMOKE: &[&str] = &[
    "steps=4",
    "steps_per_epoch=2",
    "batch_size=2",
    "window_length=40",
    "model.reformer.d_model=16",
    "model.reformer.n_heads=2",
    "model.reformer.n_layers=2",
    // Hash although sequences are short.
    "model.reformer.lsh.exact_up_to=Never",
];

/// Changes to the preset of classifiers, for a minute or a few of training on a CPU core.
fn cpu(task: LongRangeTask) -> &'static [&'static str] {
    match task {
        LongRangeTask::ListOps => &[
            "window_length=128",
            "model.reformer.n_layers=2",
            "batch_size=16",
            "steps=1500",
            "steps_per_epoch=250",
        ],
        LongRangeTask::Text | LongRangeTask::Retrieval => &[
            "window_length=1024",
            "batch_size=8",
            "steps=600",
            "steps_per_epoch=300",
        ],
        LongRangeTask::Image | LongRangeTask::Pathfinder => {
            &["batch_size=8", "steps=600", "steps_per_epoch=300"]
        }
    }
}

/// The sizes of the benchmark's base models, for images those of its Reformer, with their numbers of steps. Rates are
/// of our optimizer.
fn paper(task: LongRangeTask) -> &'static [&'static str] {
    match task {
        LongRangeTask::ListOps => &[
            "model.reformer.d_model=512",
            "model.reformer.n_heads=8",
            "model.reformer.n_layers=6",
            "model.reformer.d_ff=2048",
            "batch_size=32",
            "steps=5000",
            "steps_per_epoch=500",
            "schedule.Cosine.rate=0.0005",
        ],
        LongRangeTask::Text => &[
            "model.reformer.d_model=256",
            "model.reformer.n_heads=4",
            "model.reformer.d_ff=1024",
            "batch_size=32",
            "steps=20000",
            "steps_per_epoch=1000",
            "schedule.Cosine.rate=0.0005",
        ],
        LongRangeTask::Retrieval => &[
            "model.reformer.d_model=128",
            "model.reformer.n_heads=4",
            "model.reformer.d_ff=512",
            "batch_size=32",
            "steps=5000",
            "steps_per_epoch=500",
            "schedule.Cosine.rate=0.0005",
        ],
        LongRangeTask::Image => &[
            "model.reformer.n_heads=8",
            "model.reformer.d_head=4",
            "model.reformer.d_ff=64",
            "batch_size=256",
            "steps=35000",
            "steps_per_epoch=1750",
            "schedule.Cosine.rate=0.0005",
        ],
        LongRangeTask::Pathfinder => &[
            "model.reformer.n_layers=2",
            "model.reformer.n_heads=8",
            "model.reformer.d_head=4",
            "model.reformer.d_ff=64",
            "batch_size=512",
            "steps=62400",
            "steps_per_epoch=3120",
            "schedule.Cosine.rate=0.001",
        ],
    }
}

/// Wider windows and chunks than those of the preset, which are for 256 tokens.
const WIDER: &[&str] = &[
    "model.reformer.local.chunk_length=64",
    "model.reformer.lsh.chunk_length=64",
    "model.reformer.lsh.window={\"Bucket\":{\"len\":64}}",
];

/// The configuration that all trainings of a task share.
///
/// # Errors
/// No folder for a task that cannot be generated.
pub(super) fn config(
    task: LongRangeTask,
    path: Option<PathBuf>,
    scale: Scale,
) -> Result<TrainConfig> {
    let mut config = preset::load("classifier")?;
    config.data = data(task, path)?;
    set_defaults(&mut config, task);
    fit_model(&mut config.model, task);
    let sets = match scale {
        Scale::Smoke => SMOKE.to_vec(),
        Scale::Cpu => cpu(task).to_vec(),
        Scale::Paper => [WIDER, paper(task)].concat(),
    };
    let sets: Vec<String> = sets.into_iter().map(str::to_owned).collect();
    let mut config = overrides::apply(config, &sets)?;
    fill_length(&mut config);
    if let DataConfig::LongRange(LongRangeConfig::Lists(lists)) = &mut config.data {
        // In `cpu` as many as the trainings see.
        let [n_train, n_valid, n_test] = scale.pick(
            [40, 10, 20],
            [24_000, 500, 2_000],
            [lists.n_train, lists.n_valid, lists.n_test],
        );
        (lists.n_train, lists.n_valid, lists.n_test) = (n_train, n_valid, n_test);
    }
    Ok(config)
}
