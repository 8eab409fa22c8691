//! Completes images with a trained model.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli;
use crate::cli::arguments::{MOST_ROWS, SamplerArguments, check_range, finite};
use crate::cli::called;
use crate::cli::device::{self, DeviceName, Job};
use crate::measure::memory::{DecodingSize, check_continuing};
use crate::out;
use anyhow::{Context, Result, bail};
use clap::Parser;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use indicatif::ProgressBar;
use reformer_core::Key;
use reformer_core::generation::{DecodingConfig, LmDecoder, Logits, StepDecoder, generate};
use reformer_core::kernels::TrainBackend;
use reformer_datasets::START_TOKEN;
use reformer_datasets::images::Picture;
use reformer_train::{DataConfig, load_model};

const EXAMPLES: &str = "\
Examples:
  Four completions of the upper half of a photograph:
    generate_image --checkpoint runs/images-16-1 --complete-from cat.png
  Images from scratch:
    generate_image --checkpoint runs/images-16-1 --samples 8 --output eight.png

The PNG file shows, from left to right: the given part, the completions, the original.";

/// Side of the written image in pixels, from which the default scale follows.
const SHOWN: usize = 256;
/// Largest number of pixels of a file.
const MOST_PIXELS: u64 = 1 << 28;
/// Bytes per pixel.
const COLOURS: usize = 3;

/// Complete images with a model that train_images has trained.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Folder of the run
    #[arg(long, value_name = "RUN")]
    checkpoint: PathBuf,
    /// Image file whose upper part is given [default: none]
    #[arg(long, value_name = "FILE")]
    complete_from: Option<PathBuf>,
    /// Share of its rows that are given
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = finite)]
    keep: f64,
    /// Images to generate
    #[arg(long, alias = "batch", value_name = "N", default_value_t = 4)]
    samples: usize,
    /// File to write
    #[arg(
        long,
        alias = "out",
        value_name = "FILE",
        default_value = "completions.png"
    )]
    output: PathBuf,
    /// Pixels to a side that each pixel is drawn as [default: enough for an image 256 wide]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    scale: Option<u32>,
    #[command(flatten)]
    sampler: SamplerArguments,
    /// Backend to compute on
    #[arg(long, value_enum, default_value = "flex")]
    device: DeviceName,
}

pub fn main() -> ExitCode {
    cli::program(|arguments: Arguments| device::run(arguments.device, arguments))
}

impl Job for Arguments {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<()> {
        let sampler = self.sampler.config()?;
        check_range("--samples", self.samples, MOST_ROWS)?;
        out::check_output("--output", Some(&self.output), &self.complete_from)?;
        if !(0.0..1.0).contains(&self.keep) {
            bail!(
                "`--keep` is {}, but it is a share in [0, 1): use 0.5",
                self.keep
            );
        }
        let (model, config) = load_model::<B::InnerBackend>(&self.checkpoint, &device)?;
        let model = model.into_lm()?;
        let DataConfig::Images { size, .. } = config.data else {
            let folder = self.checkpoint.display();
            let program = called::name("generate_text");
            bail!("the model in `{folder}` is not one of images: use `{program}`");
        };
        let scale = scale(&self, size)?;
        let original = match &self.complete_from {
            Some(path) => Some(Picture::open(path, size)?),
            None => None,
        };
        let n_given = match &original {
            // At least one row is left to complete.
            Some(_) => {
                let rows = (self.keep * size as f64).round() as usize;
                rows.min(size - 1) * size * COLOURS
            }
            None => 0,
        };
        let given: Vec<u32> = original
            .iter()
            .flat_map(Picture::as_bytes)
            .take(n_given)
            .map(|&byte| byte.into())
            .collect();

        let prompt = [&[START_TOKEN as u32], &given[..]].concat();
        let n_tokens = COLOURS * size * size;
        let decoding = DecodingConfig::new(config.window_length).with_max_length(Some(n_tokens));
        let decoded = DecodingSize {
            n_rows: self.samples,
            length: n_tokens,
            cache_bytes: LmDecoder::estimated_bytes(&model, self.samples, &decoding),
            vocab_size: model.reformer.vocab_size,
        };
        check_continuing(decoded, self.device, "lower `--samples`")?;
        let (mut decoder, first) = LmDecoder::prefill(&model, &[prompt], &decoding)?;
        decoder.select(&vec![0; self.samples])?;
        let first = Logits::new(first.row(0).repeat(self.samples), first.vocab_size());

        let mut images = vec![given.clone(); self.samples];
        let bar = ProgressBar::new((n_tokens - n_given) as u64);
        let key = Key::new(self.sampler.seed);
        let mut samplers = (0..self.samples as u64)
            .map(|row| sampler.init(key.fold(row)))
            .collect::<Result<Vec<_>, _>>()?;
        generate(
            &mut decoder,
            first,
            &mut samplers,
            n_tokens - n_given,
            |row, token| {
                images[row].push(token);
                if row == 0 {
                    bar.inc(1);
                }
                Ok::<_, anyhow::Error>(ControlFlow::Continue(()))
            },
        )?;
        bar.finish_and_clear();

        let mut pictures = Vec::new();
        if original.is_some() {
            let mut black = given;
            black.resize(n_tokens, 0);
            pictures.push(picture(&black)?);
        }
        for image in &images {
            pictures.push(picture(image)?);
        }
        pictures.extend(original);
        let grid = Picture::grid(&pictures, pictures.len()).enlarged(scale);
        save(&grid, &self.output)?;
        println!("Written to {}", self.output.display());
        Ok(())
    }
}

/// Pixels to a side that each pixel is drawn as.
fn scale(arguments: &Arguments, size: usize) -> Result<u32> {
    let fitting = (SHOWN / size.max(1)).max(1) as u32;
    let scale = arguments.scale.unwrap_or(fitting);
    // The given part and the original are drawn next to the completions.
    let n_pictures = arguments.samples as u64 + 2 * u64::from(arguments.complete_from.is_some());
    let side = size as u64 * u64::from(scale);
    if n_pictures * side * side > MOST_PIXELS {
        bail!(
            "`--scale` {scale} makes {n_pictures} pictures of {side} x {side} pixels, more than {MOST_PIXELS} \
             together: use a smaller one"
        );
    }
    Ok(scale)
}

fn picture(tokens: &[u32]) -> Result<Picture> {
    let tokens: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
    Picture::from_tokens(&tokens).context("an image has three colours of every pixel")
}

/// Writes a PNG file.
fn save(grid: &Picture, path: &Path) -> Result<()> {
    let [width, height] = grid.size();
    let mut png = Vec::new();
    PngEncoder::new(&mut png).write_image(
        grid.as_bytes(),
        width,
        height,
        ExtendedColorType::Rgb8,
    )?;
    out::save(path, &png)
}
