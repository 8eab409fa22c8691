//! The base configurations of studies: a model and data at each scale.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use reformer_train::optimizer::AdafactorConfig;
use reformer_train::{DataConfig, OptimizerConfig, TrainConfig};

use super::Scale;
use crate::cli::overrides;
use crate::cli::preset;

/// Flags for text and images.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Data")]
pub(crate) struct DataArguments {
    /// A text, or a folder of them [default: the sample that ships with the project]
    #[arg(long, value_name = "PATH", conflicts_with = "enwik8")]
    pub(crate) text: Option<PathBuf>,
    /// The official enwik8, raw or packed
    #[arg(long, value_name = "FILE")]
    pub(crate) enwik8: Option<PathBuf>,
    /// A folder or an archive of images, or the folder of downsampled ImageNet's .npz files [default:
    /// none; contests on images are left out]
    #[arg(long, value_name = "PATH")]
    pub(crate) images: Option<PathBuf>,
}

/// Kinds of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataKind {
    /// Predicting the next byte of a text.
    Text,
    /// Predicting the next colour of an image.
    Images,
    /// The duplication task.
    Duplication,
    /// Passages of random symbols, repeated backwards.
    Passages,
    /// Associative recall: pairs of keys and values, then questions.
    Pairs,
}

/// A training at each scale, as changes to a preset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BaseTraining {
    /// Kind of data.
    pub(crate) data: DataKind,
    /// Changes at every scale.
    pub(crate) all: &'static [&'static str],
    /// Changes in `cpu`.
    pub(crate) cpu: &'static [&'static str],
    /// Changes in `paper`.
    pub(crate) paper: &'static [&'static str],
}

/// LSH attention as in the paper: hash rounds only, no local round.
const PAPER_LSH: &[&str] = &["model.reformer.lsh.local_round=false"];
/// A model that trains in a moment.
const SMOKE: &[&str] = &[
    "steps=4",
    "steps_per_epoch=2",
    "eval_windows=2",
    "batch_size=2",
    "model.reformer.d_model=16",
    "model.reformer.n_heads=2",
    "model.reformer.n_layers=2",
    // Hash although sequences are short.
    "model.reformer.lsh.exact_up_to=Never",
];
/// Three layers, as in the paper's ablations; learnt in a minute or two.
const CPU: &[&str] = &["model.reformer.n_layers=3", "steps_per_epoch=50"];
/// With axial positions, a training this short stays above a table of the pixel to the left (6.43 bits). With
/// rotary waves of at most 471 tokens, ten rows, exact attention has 5.7 bits after 1,250 steps.
const CPU_IMAGES: &[&str] = &["model.reformer.position={\"Rotary\":{\"base\":100.0}}"];
/// The paper's ablations, with the settings of its code: three layers, Adafactor, its rates.
const PAPER: &[&str] = &[
    "model.reformer.n_layers=3",
    "batch_size=8",
    r#"schedule={"Multifactor":{"factors":[{"Constant":2.0},{"LinearWarmup":{"steps":8000}},{"RsqrtDecay":{"warmup_steps":8000}}]}}"#,
];

impl DataArguments {
    /// The data of a kind; none if it is missing.
    pub(crate) fn data(&self, kind: DataKind, scale: Scale) -> Result<Option<DataConfig>> {
        let absolute = |path: &Path| match path.exists() {
            true => Ok(std::path::absolute(path)?),
            false => bail!("`{}` does not exist", path.display()),
        };
        Ok(match (kind, &self.text, &self.enwik8, &self.images) {
            (DataKind::Duplication, ..) => Some(DataConfig::Duplication { n_symbols: 127 }),
            // Short enough that a small model learns them.
            (DataKind::Passages, ..) => Some(DataConfig::ReturningPassages {
                n_symbols: 128,
                shortest: scale.pick(4, 10, 40),
                longest: scale.pick(8, 20, 100),
                backwards: true,
            }),
            (DataKind::Pairs, ..) => Some(DataConfig::AssociativeRecall {
                n_pairs: 16,
                fewest_pairs: None,
                n_questions: None,
                n_keys: 64,
                n_values: 64,
            }),
            (DataKind::Text, _, Some(path), _) => Some(DataConfig::Enwik8(absolute(path)?)),
            (DataKind::Text, Some(path), ..) if path.is_dir() => {
                Some(DataConfig::Folder(absolute(path)?))
            }
            (DataKind::Text, Some(path), ..) => Some(DataConfig::File(absolute(path)?)),
            (DataKind::Text, None, None, _) => Some(DataConfig::Sample),
            (DataKind::Images, _, _, Some(path)) => Some(DataConfig::Images {
                path: absolute(path)?,
                size: scale.pick(4, 16, 64),
            }),
            (DataKind::Images, _, _, None) => None,
        })
    }
}

impl BaseTraining {
    /// The configuration at a scale; none without data.
    pub(crate) fn config(&self, scale: Scale, data: &DataArguments) -> Result<Option<TrainConfig>> {
        let Some(data) = data.data(self.data, scale)? else {
            return Ok(None);
        };
        let name = match self.data {
            DataKind::Text => scale.pick("tiny", "tiny", "enwik8-64k"),
            DataKind::Images => scale.pick("images-16", "images-16", "imagenet64"),
            DataKind::Duplication => "duplication",
            DataKind::Passages | DataKind::Pairs => "recall",
        };
        let mut config = preset::load(name)?;
        config.data = data;
        let is_task = !matches!(self.data, DataKind::Text | DataKind::Images);
        if scale == Scale::Paper && !is_task {
            config.optimizer = OptimizerConfig::Adafactor(AdafactorConfig::usual());
        }
        let of_data: &[&str] = match (scale, self.data) {
            (Scale::Smoke, DataKind::Text) => &["window_length=32"],
            (Scale::Smoke, DataKind::Images) => &[
                "window_length=48",
                r#"model.reformer.position={"Axial":{"shape":[4,12],"dims":[8,8],"std":0.5}}"#,
            ],
            (Scale::Smoke, DataKind::Duplication) => &[
                "window_length=32",
                r#"model.reformer.position={"Axial":{"shape":[3,15],"dims":[8,8],"std":1.0}}"#,
            ],
            (Scale::Cpu, DataKind::Images) => CPU_IMAGES,
            (_, DataKind::Passages) => &["model.reformer.n_heads=1"],
            _ => &[],
        };
        let general = match is_task {
            // Each task determines its number of layers.
            true => scale.pick(SMOKE, &[][..], &[][..]),
            false => scale.pick(SMOKE, CPU, PAPER),
        };
        let own = scale.pick(&[][..], self.cpu, self.paper);
        let sets = [PAPER_LSH, general, of_data, self.all, own].concat();
        let sets: Vec<String> = sets.into_iter().map(str::to_owned).collect();
        Ok(Some(overrides::apply(config, &sets)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: BaseTraining = BaseTraining {
        data: DataKind::Text,
        all: &[r#"model.reformer.layers=["Lsh"]"#],
        cpu: &["steps=7"],
        paper: &["steps=9"],
    };

    #[test]
    fn every_scale_is_a_configuration() {
        let steps = |scale| {
            let config = BASE.config(scale, &DataArguments::default()).unwrap();
            let config = config.unwrap();
            config.validate().unwrap();
            (config.steps, config.model.reformer().n_layers)
        };
        assert_eq!(
            [Scale::Smoke, Scale::Cpu, Scale::Paper].map(steps),
            [(4, 2), (7, 3), (9, 3)]
        );
    }

    #[test]
    fn images_have_to_be_given() {
        let base = BaseTraining {
            data: DataKind::Images,
            ..BASE
        };
        let mut data = DataArguments::default();
        assert!(base.config(Scale::Cpu, &data).unwrap().is_none());
        data.images = Some("no/images".into());
        let message = base.config(Scale::Cpu, &data).unwrap_err().to_string();
        assert_eq!(message, "`no/images` does not exist");
    }
}
