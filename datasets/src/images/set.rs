//! Images of one size as sequences.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use image::RgbImage;

use crate::error::{DatasetError, SizeError};
use crate::holdout::{hold_out, key};
use crate::images::decode::{decode_all, resized};
use crate::images::npz::{self, PlanarImages};
use crate::images::picture::Picture;
use crate::report::ReadReport;
use crate::sequences::{Sequences, write_shifted};
use crate::storage::Bytes;

/// Colour channels of a pixel.
const N_CHANNELS: usize = 3;

/// The largest size, 805 million tokens: beyond it, positions exceed 31 bits.
const MAX_SIZE: usize = 16_384;

/// Square images of one size. Clones share the pixels.
///
/// As [`Sequences`] an image has `3 * size * size` tokens, 12,288 for 64 x 64: its pixels row by
/// row, red, green and blue one after the other. All of them are targets: the tokens are the
/// targets shifted by one position, after a [`START_TOKEN`](crate::START_TOKEN).
///
/// # Example
///
/// ```
/// use std::sync::Arc;
/// use burn_flex::Flex;
/// use reformer_datasets::TrainLoaderConfig;
/// use reformer_datasets::images::{ImageSet, Picture};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// for gray in [10, 20] {
///     let picture = Picture::from_tokens(&[gray; 3 * 8 * 8]).expect("8 x 8");
///     picture.save_png(folder.path().join(format!("{gray}.png")))?;
/// }
/// let images = ImageSet::open_images(folder.path(), 4)?;
/// assert_eq!((images.len(), images.size()), (2, 4));
/// assert_eq!(images.picture(1).as_bytes(), [20; 3 * 4 * 4]);
///
/// let loader = TrainLoaderConfig::new(48, 2, 100)
///     .init_sequences::<Flex>(Arc::new(images), &Default::default())?;
/// assert_eq!(loader.batch(0).tokens.dims(), [2, 48]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ImageSet {
    size: usize,
    n_images: usize,
    parts: Vec<Part>,
    /// Indices of the selected images, if not all.
    chosen: Option<Arc<[usize]>>,
    report: Arc<ReadReport>,
}

/// The images of one file.
#[derive(Clone)]
struct Part {
    bytes: Bytes,
    range: Range<usize>,
    /// Side length of its images as stored.
    size: usize,
    layout: Layout,
}

/// The order of an image's bytes.
#[derive(Clone, Copy)]
enum Layout {
    /// The red plane, the green plane, the blue plane.
    Planar,
    /// Red, green and blue of a pixel, then of the next.
    Interleaved,
}

impl fmt::Debug for ImageSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageSet")
            .field("size", &self.size)
            .field("n_images", &self.n_images)
            .finish_non_exhaustive()
    }
}

impl ImageSet {
    /// The images of an official file of downsampled ImageNet, such as `train_data_batch_1.npz`:
    /// its array `data` with unsigned bytes `[n_images, 3 * size * size]`, as colour planes.
    ///
    /// It is read into memory up to 256 MiB, beyond that into a file in the system's temporary
    /// folder, which is deleted with the set.
    ///
    /// # Errors
    /// [`NotFound`](DatasetError::NotFound), [`Unreadable`](DatasetError::Unreadable),
    /// [`Directory`](DatasetError::Directory), [`Malformed`](DatasetError::Malformed),
    /// [`Bomb`](DatasetError::Bomb), [`NoSpace`](DatasetError::NoSpace), or
    /// [`NothingIn`](DatasetError::NothingIn) when the array has no rows.
    pub fn open_npz(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let path = path.as_ref();
        let PlanarImages { bytes, range, size } = npz::open(path)?;
        if range.is_empty() {
            return Err(DatasetError::NothingIn {
                path: path.to_owned(),
                wanted: "image",
            });
        }
        check_size(size)?;
        let mut report = ReadReport::at(path);
        report.files = 1;
        let part = Part {
            bytes,
            range,
            size,
            layout: Layout::Planar,
        };
        Ok(Self::of(part, report))
    }

    /// The PNG, JPEG, WebP, GIF, BMP and TIFF files of a folder and the folders in it, in the order
    /// of their paths, or those of a `.tar`, `.tar.gz` or `.tar.xz` archive, in the order of its
    /// entries. Their EXIF orientation is applied. Images of another size are resized to `size`,
    /// ignoring the aspect ratio; grayscale ones get three equal channels, transparency is dropped,
    /// and only the first frame of an animation is used.
    ///
    /// Other files, damaged images and truncated ones are left out: see [`report`](Self::report).
    ///
    /// All are decoded now: into memory up to 256 MiB, 20,000 images of 64 x 64, beyond that into a
    /// file in the system's temporary folder, which is removed with the set.
    ///
    /// # Errors
    /// [`NotFound`](DatasetError::NotFound), [`Unreadable`](DatasetError::Unreadable),
    /// [`Malformed`](DatasetError::Malformed) for a damaged archive, or with the name of the first
    /// image when all are damaged, [`NothingIn`](DatasetError::NothingIn) when there are no images,
    /// those of an archive or a folder, or [`Setting`](SizeError::Setting) for a size of 0 or
    /// beyond 16,384.
    pub fn open_images(path: impl AsRef<Path>, size: usize) -> Result<Self, DatasetError> {
        check_size(size)?;
        let (bytes, report) = decode_all(path.as_ref(), size)?;
        let part = Part {
            range: 0..bytes.len(),
            bytes,
            size,
            layout: Layout::Interleaved,
        };
        Ok(Self::of(part, report))
    }

    fn of(part: Part, report: ReadReport) -> Self {
        Self {
            size: part.size,
            n_images: part.n_images(),
            parts: vec![part],
            chosen: None,
            report: Arc::new(report),
        }
    }

    /// These images followed by others, all in this set's size.
    pub fn followed_by(mut self, other: Self) -> Self {
        if self.chosen.is_some() || other.chosen.is_some() {
            let n_stored: usize = self.parts.iter().map(Part::n_images).sum();
            let first = (0..self.n_images).map(|index| self.stored(index));
            let second = (0..other.n_images).map(|index| n_stored + other.stored(index));
            self.chosen = Some(first.chain(second).collect());
        }
        self.n_images += other.n_images;
        self.parts.extend(other.parts);
        Arc::make_mut(&mut self.report).files += other.report.files;
        self
    }

    /// Splits the images for training and validation: of every `every` different images one is held
    /// out for the latter, at least one, chosen by a hash of its pixels, so that no image is in
    /// both.
    ///
    /// # Errors
    /// [`TooFew`](DatasetError::TooFew) when there are less than two different images.
    pub fn split(&self, every: usize) -> Result<[Self; 2], DatasetError> {
        let keys = (0..self.len()).map(|index| (key(&self.pixels(index)), 0));
        let parts = hold_out(keys, every).map_err(|n| DatasetError::TooFew {
            name: self.report.name.clone(),
            n,
            unit: "images",
            left_out: self.report.left_out(),
        })?;
        Ok(parts.map(|part| Self {
            n_images: part.len(),
            chosen: Some(part.into_iter().map(|index| self.stored(index)).collect()),
            ..self.clone()
        }))
    }

    /// Index of an image among those of all parts.
    fn stored(&self, index: usize) -> usize {
        self.chosen.as_ref().map_or(index, |chosen| chosen[index])
    }

    /// What was read, with the number of images in this set.
    pub fn report(&self) -> ReadReport {
        let report = ReadReport::clone(&self.report).with_count(self.len(), "images");
        report.with_count(self.len().saturating_mul(self.seq_length()), "tokens")
    }

    /// The same images in another size: an image is resized each time it is read.
    ///
    /// # Errors
    /// [`Setting`](SizeError::Setting) for a size of 0 or beyond 16,384.
    pub fn with_size(self, size: usize) -> Result<Self, DatasetError> {
        check_size(size)?;
        Ok(Self { size, ..self })
    }

    /// Width and height of an image, in pixels.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Number of images, at least 1.
    pub fn len(&self) -> usize {
        self.n_images
    }

    /// Always false: a set has at least one image.
    pub fn is_empty(&self) -> bool {
        self.n_images == 0
    }

    /// An image, for display.
    ///
    /// # Panics
    /// When there is no image of this number.
    pub fn picture(&self, index: usize) -> Picture {
        let tokens: Vec<i32> = self.pixels(index).into_iter().map(i32::from).collect();
        Picture::from_tokens(&tokens).expect("an image of the set is a square")
    }

    /// The pixels of an image, in this set's size, with interleaved channels.
    fn pixels(&self, index: usize) -> Vec<u8> {
        let mut left = self.stored(index);
        for part in &self.parts {
            if left < part.n_images() {
                return part.pixels(left, self.size);
            }
            left -= part.n_images();
        }
        panic!("there are {} images, and no {index}", self.n_images)
    }
}

fn check_size(size: usize) -> Result<(), DatasetError> {
    if size == 0 || size > MAX_SIZE {
        return Err(SizeError::Setting {
            setting: "the size of an image",
            value: size,
            limit: "1 to 16384",
            way_out: "64 as in the paper, or a smaller one to try",
        }
        .into());
    }
    Ok(())
}

impl Part {
    fn n_bytes_per_image(&self) -> usize {
        N_CHANNELS * self.size * self.size
    }

    fn n_images(&self) -> usize {
        self.range.len() / self.n_bytes_per_image()
    }

    fn pixels(&self, index: usize, size: usize) -> Vec<u8> {
        let n_bytes = self.n_bytes_per_image();
        let stored = &self.bytes[self.range.clone()][index * n_bytes..][..n_bytes];
        let pixels = match self.layout {
            Layout::Interleaved => stored.to_vec(),
            Layout::Planar => interleaved(stored),
        };
        if size == self.size {
            return pixels;
        }
        let side = self.size as u32;
        let image = RgbImage::from_raw(side, side, pixels).expect("three bytes a pixel");
        resized(image, size).into_raw()
    }
}

/// Converts colour planes to interleaved channels.
fn interleaved(planes: &[u8]) -> Vec<u8> {
    let n_pixels = planes.len() / N_CHANNELS;
    let mut pixels = vec![0; planes.len()];
    for (channel, plane) in planes.chunks_exact(n_pixels).enumerate() {
        for (pixel, &value) in pixels.chunks_exact_mut(N_CHANNELS).zip(plane) {
            pixel[channel] = value;
        }
    }
    pixels
}

impl Sequences for ImageSet {
    fn seq_length(&self) -> usize {
        N_CHANNELS * self.size * self.size
    }

    fn vocab_size(&self) -> usize {
        usize::from(u8::MAX) + 1
    }

    fn n_sequences(&self) -> Option<usize> {
        Some(self.n_images)
    }

    fn read(&self, number: u64, tokens: &mut [i32], targets: &mut [i32]) {
        let pixels = self.pixels(number as usize);
        write_shifted(pixels.into_iter().map(i32::from), tokens, targets);
    }
}
