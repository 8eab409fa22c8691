//! Files of images, in folders and in tar archives.

use std::io::{self, Cursor, Read, Write};
use std::path::Path;

use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use rayon::prelude::*;
use tar::Archive;

use crate::error::DatasetError;
use crate::images::jpeg;
use crate::report::ReadReport;
use crate::storage::{Bytes, Spool, read_file, unpacked, walk};

/// Number of files in memory at a time.
const CHUNK: usize = 1_024;
/// Maximum bytes of files and of resized images in memory at a time.
const CHUNK_BYTES: usize = 64 << 20;
/// Maximum bytes of a decoded image: 178 million pixels of three bytes.
const MAX_DECODED: u64 = 512 << 20;
/// Maximum bytes of an image that is decoded in parallel with others.
const MAX_IN_PARALLEL: u64 = 64 << 20;
/// Maximum bytes of an image in an archive.
const MAX_FILE: u64 = 512 << 20;
/// Names of the supported formats.
pub(super) const FORMATS: &str = "a PNG, JPEG, WebP, GIF, BMP or TIFF image";

/// Decodes all images of a folder or an archive, one after the other as `size * size` pixels of
/// three bytes. Their order is that of the paths in a folder, and that of the entries in an
/// archive. Damaged ones are left out, and named in the report.
pub(super) fn decode_all(path: &Path, size: usize) -> Result<(Bytes, ReadReport), DatasetError> {
    let mut sink = Sink {
        size,
        spool: Spool::new(),
        path,
        waiting: Vec::new(),
        n_waiting_bytes: 0,
        n_images: 0,
        first_damage: None,
        report: ReadReport::at(path),
    };
    if path.is_dir() {
        read_folder(path, &mut sink)?;
    } else {
        read_archive(path, &mut sink)?;
    }
    sink.finish()
}

fn read_folder(folder: &Path, sink: &mut Sink<'_>) -> Result<(), DatasetError> {
    for file in walk(folder, &mut sink.report)? {
        if is_image(&file) {
            sink.report.files += 1;
            let bytes = read_file(&file)?;
            sink.push(file.display().to_string(), bytes)?;
        } else {
            sink.report
                .skip("files that are not images", file.display());
        }
    }
    Ok(())
}

fn read_archive(path: &Path, sink: &mut Sink<'_>) -> Result<(), DatasetError> {
    let malformed =
        |error: io::Error| DatasetError::malformed(path, "a tar archive of images", error);
    let bytes = unpacked(path)?;
    sink.report.files = 1;
    let mut archive = Archive::new(&*bytes);
    for entry in archive.entries().map_err(malformed)? {
        let mut entry = entry.map_err(malformed)?;
        let name = entry.path().map_err(malformed)?.into_owned();
        if !entry.header().entry_type().is_file() {
            continue;
        }
        if !is_image(&name) {
            sink.report
                .skip("files that are not images", name.display());
            continue;
        }
        if entry.size() > MAX_FILE {
            return Err(malformed(io::ErrorKind::FileTooLarge.into()));
        }
        let mut image = Vec::new();
        entry.read_to_end(&mut image).map_err(malformed)?;
        // A truncated archive ends an entry early without an error.
        if image.len() as u64 != entry.size() {
            return Err(malformed(io::ErrorKind::UnexpectedEof.into()));
        }
        sink.push(
            format!("{}: {}", path.display(), name.display()),
            image.into(),
        )?;
    }
    Ok(())
}

/// Whether a file has the extension of an image. The format is detected by its first bytes.
fn is_image(path: &Path) -> bool {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    let format = ImageFormat::from_path(path);
    let hidden = path
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && matches!(format, Ok(Png | Jpeg | WebP | Gif | Bmp | Tiff))
}

/// Collects files and decodes many at a time, on all cores.
struct Sink<'a> {
    size: usize,
    spool: Spool,
    path: &'a Path,
    waiting: Vec<(String, Bytes)>,
    n_waiting_bytes: usize,
    n_images: usize,
    first_damage: Option<DatasetError>,
    report: ReadReport,
}

impl Sink<'_> {
    fn push(&mut self, name: String, bytes: Bytes) -> Result<(), DatasetError> {
        self.n_waiting_bytes += bytes.len() + 3 * self.size * self.size;
        self.waiting.push((name, bytes));
        if self.waiting.len() == CHUNK || self.n_waiting_bytes > CHUNK_BYTES {
            self.decode_waiting()?;
        }
        Ok(())
    }

    fn decode_waiting(&mut self) -> Result<(), DatasetError> {
        let waiting = std::mem::take(&mut self.waiting);
        self.n_waiting_bytes = 0;
        let size = self.size;
        let in_parallel: Vec<_> = waiting
            .par_iter()
            .map(|(name, bytes)| decode_within(name, bytes, size, MAX_IN_PARALLEL))
            .collect();
        for ((name, bytes), decoded) in waiting.iter().zip(in_parallel) {
            // Large ones are decoded alone, so that the memory does not depend on the cores.
            let decoded = match decoded {
                Some(decoded) => decoded,
                None => decode(name, bytes, size),
            };
            match decoded {
                Ok(image) => {
                    self.n_images += 1;
                    self.spool
                        .write_all(image.as_raw())
                        .map_err(|source| DatasetError::from_io(self.path, source))?;
                }
                Err(error) => {
                    self.report.skip("damaged or truncated images", name);
                    self.first_damage.get_or_insert(error);
                }
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(Bytes, ReadReport), DatasetError> {
        self.decode_waiting()?;
        if self.n_images == 0 {
            return Err(self.first_damage.unwrap_or(DatasetError::NothingIn {
                path: self.path.to_owned(),
                wanted: "PNG, JPEG, WebP, GIF, BMP or TIFF file",
            }));
        }
        let bytes = self.spool.into_bytes();
        let bytes = bytes.map_err(|source| DatasetError::from_io(self.path, source))?;
        Ok((bytes, self.report))
    }
}

/// Decodes one file as RGB, even if it is grayscale, applies its orientation, and resizes it.
pub(super) fn decode(name: &str, bytes: &[u8], size: usize) -> Result<RgbImage, DatasetError> {
    let too_large = || {
        let found = format!("decoded, it takes more than {MAX_DECODED} bytes");
        Err(DatasetError::malformed(Path::new(name), FORMATS, found))
    };
    decode_within(name, bytes, size, MAX_DECODED).unwrap_or_else(too_large)
}

/// The same, or `None` for an image that takes more than `max_bytes` bytes.
fn decode_within(
    name: &str,
    bytes: &[u8],
    size: usize,
    max_bytes: u64,
) -> Option<Result<RgbImage, DatasetError>> {
    let malformed = |found: String| {
        Some(Err(DatasetError::malformed(
            Path::new(name),
            FORMATS,
            found,
        )))
    };
    if jpeg::is_cut(bytes) {
        return malformed("it is cut off: its end is missing".to_owned());
    }
    match decode_upright(bytes, max_bytes) {
        Ok(Some(image)) => Some(Ok(resized(image.into_rgb8(), size))),
        Ok(None) => None,
        Err(error) => malformed(error.to_string()),
    }
}

/// The image with the orientation of its EXIF data; `None` if it takes more than `max_bytes` bytes.
fn decode_upright(bytes: &[u8], max_bytes: u64) -> image::ImageResult<Option<DynamicImage>> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED);
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    // The output of the decoder, and its copy with three bytes per pixel.
    let n_pixels = u64::from(width) * u64::from(height);
    if decoder.total_bytes().saturating_add(3 * n_pixels) > max_bytes {
        return Ok(None);
    }
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(Some(image))
}

/// The image resized to a square, ignoring its aspect ratio, as in downsampled ImageNet.
///
/// The triangle filter grows with the scale, so every pixel of a larger image contributes to the
/// result.
pub(super) fn resized(image: RgbImage, size: usize) -> RgbImage {
    let size = size as u32;
    if image.dimensions() == (size, size) {
        return image;
    }
    image::imageops::resize(&image, size, size, FilterType::Triangle)
}
