//! PNG and JPEG files, in folders and in tar archives.

use std::io::{self, Cursor, Read, Write};
use std::path::Path;

use image::imageops::FilterType;
use image::{ImageFormat, ImageReader, RgbImage};
use rayon::prelude::*;
use tar::Archive;

use crate::error::DatasetError;
use crate::storage::{Bytes, Spool, decompressed, map_file, walk};

/// As many files are in memory at a time, undecoded.
const CHUNK: usize = 1_024;

/// Decodes all images of a folder or an archive, one after the other as `size * size` pixels of three bytes.
/// Their order is that of the paths in a folder, and that of the entries in an archive.
pub(super) fn decode_all(path: &Path, size: usize) -> Result<Bytes, DatasetError> {
    let mut sink = Sink {
        size,
        spool: Spool::new(),
        path,
        waiting: Vec::new(),
    };
    if path.is_dir() {
        read_folder(path, &mut sink)?;
    } else {
        read_archive(path, &mut sink)?;
    }
    sink.finish()
}

fn read_folder(folder: &Path, sink: &mut Sink<'_>) -> Result<(), DatasetError> {
    for file in walk(folder)? {
        if is_image(&file) {
            let bytes = map_file(&file)?.to_vec();
            sink.push(file.display().to_string(), bytes)?;
        }
    }
    Ok(())
}

fn read_archive(path: &Path, sink: &mut Sink<'_>) -> Result<(), DatasetError> {
    let malformed = |error: io::Error| {
        DatasetError::malformed(path, "a tar archive of PNG or JPEG files", error)
    };
    let bytes = decompressed(path)?;
    let mut archive = Archive::new(&*bytes);
    for entry in archive.entries().map_err(malformed)? {
        let mut entry = entry.map_err(malformed)?;
        let name = entry.path().map_err(malformed)?.into_owned();
        if entry.header().entry_type().is_file() && is_image(&name) {
            let mut image = Vec::new();
            entry.read_to_end(&mut image).map_err(malformed)?;
            // A cut archive ends an entry early and says nothing.
            if image.len() as u64 != entry.size() {
                return Err(malformed(io::ErrorKind::UnexpectedEof.into()));
            }
            sink.push(format!("{}: {}", path.display(), name.display()), image)?;
        }
    }
    Ok(())
}

/// Whether a file's extension is that of an image. What it contains is told by its first bytes.
fn is_image(path: &Path) -> bool {
    let format = ImageFormat::from_path(path);
    let hidden = path
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && matches!(format, Ok(ImageFormat::Png | ImageFormat::Jpeg))
}

/// Takes files and decodes many at a time, on all cores.
struct Sink<'a> {
    size: usize,
    spool: Spool,
    path: &'a Path,
    waiting: Vec<(String, Vec<u8>)>,
}

impl Sink<'_> {
    fn push(&mut self, name: String, bytes: Vec<u8>) -> Result<(), DatasetError> {
        self.waiting.push((name, bytes));
        if self.waiting.len() == CHUNK {
            self.decode_waiting()?;
        }
        Ok(())
    }

    fn decode_waiting(&mut self) -> Result<(), DatasetError> {
        let decoded: Vec<RgbImage> = self
            .waiting
            .par_drain(..)
            .map(|(name, bytes)| decode(&name, bytes, self.size))
            .collect::<Result<_, _>>()?;
        for image in decoded {
            self.spool
                .write_all(image.as_raw())
                .map_err(|source| DatasetError::from_io(self.path, source))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Bytes, DatasetError> {
        self.decode_waiting()?;
        let bytes = self
            .spool
            .into_bytes()
            .map_err(|source| DatasetError::from_io(self.path, source))?;
        if bytes.is_empty() {
            return Err(DatasetError::NothingIn {
                path: self.path.to_owned(),
                wanted: "PNG or JPEG file",
            });
        }
        Ok(bytes)
    }
}

/// Decodes one file, as colours even if it is gray, and brings it to the size.
pub(super) fn decode(name: &str, bytes: Vec<u8>, size: usize) -> Result<RgbImage, DatasetError> {
    let malformed =
        |found: String| DatasetError::malformed(Path::new(name), "a PNG or JPEG image", found);
    let image = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| malformed(error.to_string()))?
        .decode()
        .map_err(|error| malformed(error.to_string()))?;
    Ok(resized(image.into_rgb8(), size))
}

/// The image as a square of this size, with its proportions given up, as in downsampled ImageNet.
///
/// The triangle filter grows with the scale, so every pixel of a larger image has its part in the result.
pub(super) fn resized(image: RgbImage, size: usize) -> RgbImage {
    let size = size as u32;
    if image.dimensions() == (size, size) {
        return image;
    }
    image::imageops::resize(&image, size, size, FilterType::Triangle)
}
