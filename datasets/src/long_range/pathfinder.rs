//! Pathfinder, as the benchmark has published it: folders of small images, and lists of them.

use std::fs;
use std::io::Cursor;
use std::path::{Component, Path, PathBuf};

use image::{ImageFormat, ImageReader, Limits};
use rayon::prelude::*;

use crate::error::DatasetError;
use crate::holdout::SplitName;
use crate::holdout::{hold_out, key};
use crate::labelled::{BYTES, ClassifiedBuilder, ClassifiedRows};
use crate::long_range::LongRangeTask;
use crate::report::{ReadReport, shown};
use crate::storage::{as_str, read_file, read_text, walk};

/// One of this many images is for the test.
const TEST_EVERY: usize = 10;
/// Of the others, one of this many is for validation: as many as for the test.
const VALID_EVERY: usize = 9;
/// The folder of the hardest images, which the benchmark uses.
const HARDEST: &str = "curv_contour_length_14";
/// Maximum images, five times those of the benchmark.
const MAX_IMAGES: usize = 1_000_000;
/// Maximum bytes of an image file. The largest images of the benchmark, 256 x 256, are smaller
/// uncompressed.
const MAX_FILE: u64 = 1 << 20;
/// Maximum width and height of an image, that of the benchmark's largest.
const MAX_SIDE: u32 = 256;
/// Number of images in memory at a time.
const CHUNK: usize = 1_024;

/// An image of the lists.
struct Listed {
    path: PathBuf,
    class: usize,
}

/// Reads the images of one part.
pub(super) fn open(
    folder: &Path,
    part: SplitName,
    max_length: usize,
) -> Result<ClassifiedRows, DatasetError> {
    let inside = folder.join(HARDEST);
    let folder = if inside.is_dir() { &inside } else { folder };
    let mut report = ReadReport::at(folder);
    let images = of_part(list(folder, &mut report)?, part, folder, &report)?;
    let mut builder = ClassifiedBuilder::new(BYTES, max_length);
    let mut size = None;
    for chunk in images.chunks(CHUNK) {
        let read = chunk.par_iter().map(|image| pixels(&image.path));
        let read: Vec<Option<Image>> = read.collect::<Result<_, _>>()?;
        for (listed, image) in chunk.iter().zip(read) {
            let Some(image) = image else {
                report.skip("empty images", listed.path.display());
                continue;
            };
            report.files += 1;
            let first = *size.get_or_insert(image.size);
            if image.size != first {
                let [found, first] = [image.size, first].map(|[x, y]| format!("{x} x {y}"));
                let found = format!("it is {found}, and the images before it are {first}");
                return Err(DatasetError::malformed(&listed.path, FORMAT, found));
            }
            builder.push(image.pixels.into_iter().map(u16::from), listed.class);
        }
    }
    builder.note_cuts(&mut report);
    Ok(builder.build(LongRangeTask::Pathfinder.classes(), report))
}

/// The images of all lists, which are text although they are named like arrays: in a line the
/// folder, the file, a number, the label and what the image was drawn with.
fn list(folder: &Path, report: &mut ReadReport) -> Result<Vec<Listed>, DatasetError> {
    let lists = folder.join("metadata");
    let mut images = Vec::new();
    for path in walk(&lists, report)? {
        let text = read_text(&path, report)?;
        for (number, line) in as_str(&text).lines().enumerate() {
            let malformed = |found: String| {
                let found = format!("line {}: {found}", number + 1);
                DatasetError::malformed(&path, "a list of images of Pathfinder", found)
            };
            if line.trim().is_empty() {
                continue;
            }
            let (inside, class) = entry(line).map_err(malformed)?;
            if images.len() == MAX_IMAGES {
                let found = format!("there are more than {MAX_IMAGES} images, the limit");
                return Err(malformed(found));
            }
            images.push(Listed {
                path: folder.join(inside),
                class,
            });
        }
    }
    Ok(images)
}

/// The path and the class of an image.
fn entry(line: &str) -> Result<(PathBuf, usize), String> {
    let mut fields = line.split_whitespace();
    let (Some(folder), Some(file), Some(_), Some(label)) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err("it must have a folder, a file, a number and a label".to_owned());
    };
    let path = Path::new(folder).join(file);
    let is_inside = |path: &Path| {
        path.components()
            .all(|part| matches!(part, Component::Normal(_)))
    };
    if !is_inside(&path) {
        let path = shown(&path.to_string_lossy());
        return Err(format!("`{path}` is not a path inside the folder"));
    }
    match label {
        "0" => Ok((path, 0)),
        "1" => Ok((path, 1)),
        _ => Err(format!(
            "its label is `{}`, and must be 0 or 1",
            shown(label)
        )),
    }
}

/// The images of one part, chosen by a hash of their names.
fn of_part(
    images: Vec<Listed>,
    part: SplitName,
    folder: &Path,
    report: &ReadReport,
) -> Result<Vec<Listed>, DatasetError> {
    let keys: Vec<(u128, usize)> = images
        .iter()
        .map(|image| {
            let inside = image.path.strip_prefix(folder).unwrap_or(&image.path);
            (key(inside.as_os_str().as_encoded_bytes()), image.class)
        })
        .collect();
    let too_few = |n| DatasetError::TooFew {
        name: report.name.clone(),
        n,
        unit: "images",
        left_out: report.left_out(),
    };
    let [rest, test] = hold_out(keys.iter().copied(), TEST_EVERY).map_err(too_few)?;
    let numbers = match part {
        SplitName::Test => test,
        SplitName::Train | SplitName::Valid => {
            let of_rest = rest.iter().map(|&number| keys[number]);
            let [train, valid] = hold_out(of_rest, VALID_EVERY).map_err(too_few)?;
            let chosen = if part == SplitName::Train {
                train
            } else {
                valid
            };
            chosen.into_iter().map(|number| rest[number]).collect()
        }
    };
    let mut images: Vec<Option<Listed>> = images.into_iter().map(Some).collect();
    let take = |number: usize| images[number].take();
    Ok(numbers.into_iter().filter_map(take).collect())
}

/// What an image file contains.
const FORMAT: &str = "a PNG image of Pathfinder";

/// A decoded image.
struct Image {
    size: [u32; 2],
    /// Gray, row by row.
    pixels: Vec<u8>,
}

/// Decodes an image; none if its file is empty, as some of the benchmark's are.
fn pixels(path: &Path) -> Result<Option<Image>, DatasetError> {
    let metadata = fs::metadata(path).map_err(|source| DatasetError::from_io(path, source))?;
    if metadata.is_file() && metadata.len() == 0 {
        return Ok(None);
    }
    if metadata.len() > MAX_FILE {
        let found = format!(
            "it has {} bytes, and at most {MAX_FILE} are allowed",
            metadata.len()
        );
        return Err(DatasetError::malformed(path, FORMAT, found));
    }
    let bytes = read_file(path)?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    let mut reader = ImageReader::with_format(Cursor::new(&*bytes), ImageFormat::Png);
    reader.limits(limits);
    let image = reader
        .decode()
        .map_err(|error| DatasetError::malformed(path, FORMAT, error))?
        .into_luma8();
    Ok(Some(Image {
        size: [image.width(), image.height()],
        pixels: image.into_raw(),
    }))
}
