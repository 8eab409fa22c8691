//! Trains a model of images, colour by colour.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::{self, absolute};
use crate::training::{TrainArguments, TrainingProgram, train};
use anyhow::{Result, bail};
use clap::Parser;
use reformer_train::DataConfig;

const EXAMPLES: &str = "\
Examples:
  Photographs at 16 x 16 pixels, minutes on two CPU cores:
    train_images --data photos/
  An archive of them:
    train_images --data photos.tar.gz
  Downsampled ImageNet, the folder of its .npz files, as in the paper:
    train_images --data imagenet64/ --preset imagenet64 --device cuda

An image is a sequence of 3 x SIZE x SIZE tokens: its pixels row by row, red, green and blue.
Of photographs, one of twenty is kept for validation, chosen by a hash of its pixels.";

/// Train a Reformer to predict the next colour of an image.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Folder or archive of PNG, JPEG, WebP, GIF, BMP and TIFF files, or folder of downsampled ImageNet's .npz files
    #[arg(long, value_name = "PATH", conflicts_with_all = ["resume", "join"])]
    data: Option<PathBuf>,
    #[command(flatten)]
    train: TrainArguments,
}

pub fn main() -> ExitCode {
    cli::program(|arguments: Arguments| train(arguments.train, &Images(arguments.data)))
}

/// Data at this path, if it is given.
struct Images(Option<PathBuf>);

impl TrainingProgram for Images {
    fn name(&self) -> &'static str {
        "train_images"
    }

    fn preset(&self) -> &'static str {
        "images-16"
    }

    fn data(&self, preset: DataConfig) -> Result<DataConfig> {
        let DataConfig::Images { path, size } = preset else {
            bail!("this preset is not for images: use images-16 or imagenet64");
        };
        let path = match &self.0 {
            Some(path) => path.clone(),
            None if path.is_absolute() => path,
            None => bail!("there are no images: name a folder or an archive by --data"),
        };
        Ok(DataConfig::Images {
            path: absolute(&path)?,
            size,
        })
    }
}
