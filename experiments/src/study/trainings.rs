//! Runs trainings one after the other.

use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use burn::train::Interrupter;
use reformer_core::kernels::TrainBackend;
use reformer_train::metrics::Row;
use reformer_train::screen::Screen;
use reformer_train::{Ending, Run, TrainConfig, TrainOptions};
use serde::Serialize;
use serde_json::Value;

use super::StudyArguments;
use super::folder::Study;
use super::plan::plan;
use crate::cli::device::{self, Job};
use crate::cli::interrupt::{self, Stopped};
use crate::cli::overrides;
use crate::cli::progress::ProgressLines;

/// One training of a study.
#[derive(Debug, Clone)]
pub(crate) struct Training {
    /// Its folder below `runs/`.
    pub(crate) key: String,
    /// Its label in messages and tables.
    pub(crate) label: String,
    pub(crate) config: TrainConfig,
    /// Folder of an earlier training, whose weights it starts from.
    pub(crate) start_from: Option<String>,
}

impl Training {
    /// One training of a changed configuration for each seed.
    pub(crate) fn by_seed(
        key: &str,
        label: &str,
        base: &TrainConfig,
        sets: &[String],
        seeds: Range<u64>,
    ) -> Result<Vec<Self>> {
        let config = overrides::apply(base.clone(), sets)?;
        let training = |seed| Self {
            key: format!("{key}-{seed}"),
            label: format!("{label}, seed {seed}"),
            config: TrainConfig {
                seed,
                ..config.clone()
            },
            start_from: None,
        };
        Ok(seeds.map(training).collect())
    }
}

/// A finished training.
#[derive(Debug, Clone)]
pub(crate) struct Trained {
    /// Its folder, for [`reformer_train::load_model`].
    pub(crate) folder: PathBuf,
    pub(crate) rows: Vec<Row>,
}

/// Opens a study whose settings are those of its trainings, and runs them. None with `--plan`, which only prints.
pub(crate) fn open_and_train(
    name: &'static str,
    arguments: &StudyArguments,
    trainings: &[Training],
) -> Result<Option<(Study, Vec<Trained>)>> {
    let configs: Vec<&TrainConfig> = trainings.iter().map(|training| &training.config).collect();
    open_and_train_with(name, arguments, &configs, renewed, trainings)
}

/// Configurations that an earlier version wrote, as this one writes them.
fn renewed(earlier: Value) -> Value {
    let all = earlier.as_array().into_iter().flatten();
    let configs: Result<Vec<_>, _> = all.map(TrainConfig::from_settings).collect();
    match configs.map(serde_json::to_value) {
        Ok(Ok(configs)) => configs,
        _ => earlier,
    }
}

/// Like [`open_and_train`], for a study with settings in a form of its own.
pub(crate) fn open_and_train_as(
    name: &'static str,
    arguments: &StudyArguments,
    settings: &impl Serialize,
    trainings: &[Training],
) -> Result<Option<(Study, Vec<Trained>)>> {
    open_and_train_with(name, arguments, settings, |earlier| earlier, trainings)
}

/// `renewed` is that of [`Study::open_with`].
fn open_and_train_with(
    name: &'static str,
    arguments: &StudyArguments,
    settings: &impl Serialize,
    renewed: impl FnOnce(Value) -> Value,
    trainings: &[Training],
) -> Result<Option<(Study, Vec<Trained>)>> {
    if arguments.plan {
        for training in trainings {
            println!("{}: {} steps", training.label, training.config.steps);
        }
        println!("{}", plan(trainings));
        return Ok(None);
    }
    let study = Study::open_with(name, arguments, settings, renewed)?;
    let job = TrainAll {
        study: &study,
        trainings,
    };
    let trained = device::run(study.device(), job)?;
    Ok(Some((study, trained)))
}

/// Runs all trainings that are not finished, and resumes the one that was interrupted. If it is interrupted
/// again, the error is [`Stopped`].
struct TrainAll<'a> {
    study: &'a Study,
    trainings: &'a [Training],
}

impl Job<Vec<Trained>> for TrainAll<'_> {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<Vec<Trained>> {
        let interrupter = Interrupter::new();
        interrupt::on_ctrl_c(interrupter.clone())?;
        let mut all = Vec::new();
        for (number, training) in self.trainings.iter().enumerate() {
            let place = format!(
                "[{}/{}] {}",
                number + 1,
                self.trainings.len(),
                training.label
            );
            let trained = train::<B>(self.study, training, &place, &interrupter, &device)
                .with_context(|| format!("training `{}`", training.key))?;
            match trained {
                Some(trained) => all.push(trained),
                None => {
                    println!("Stopped. Run the same command again to resume.");
                    return Err(Stopped.into());
                }
            }
        }
        Ok(all)
    }
}

fn train<B: TrainBackend>(
    study: &Study,
    training: &Training,
    place: &str,
    interrupter: &Interrupter,
    device: &B::Device,
) -> Result<Option<Trained>> {
    let folder = study.folder().join("runs").join(&training.key);
    let run = match folder.join("config.json").exists() {
        true => Run::resume(&folder)?,
        false => {
            let earlier = training.start_from.as_ref();
            let earlier = earlier.map(|key| study.folder().join("runs").join(key));
            Run::create_from(training.config.clone(), &folder, earlier.as_deref())?
        }
    };
    if *run.config() != training.config {
        bail!(
            "`{}` holds a training with other settings: remove it",
            folder.display()
        );
    }
    if !folder.join("model.mpk").exists() {
        let point = run.resume_point::<B>(device)?;
        let lines = ProgressLines::new(point.step, run.config()).with_prefix(place);
        let mut options = TrainOptions::new(Screen::Renderer(lines));
        options.interrupter = interrupter.clone();
        let outcome = run.train::<B, _>(device, point.step, options)?;
        if let Ending::Interrupted(_) = outcome.ending {
            return Ok(None);
        }
    }
    Ok(Some(Trained {
        rows: run.rows()?,
        folder,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published settings of a study whose models did not have kinds.
    #[test]
    fn settings_of_earlier_versions_are_renewed() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../benchmarks/paper/table2_duplication/config.json"
        );
        let earlier: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(earlier[0]["model"].get("kind").is_none());
        let n = earlier.as_array().unwrap().len();
        let renewed = renewed(earlier);
        let renewed = renewed.as_array().unwrap();
        assert_eq!(renewed.len(), n);
        for config in renewed {
            assert!(config["model"]["kind"].is_string(), "{config}");
        }
    }
}
