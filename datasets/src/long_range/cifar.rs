//! CIFAR-10 in gray, from its binary version.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::DatasetError;
use crate::holdout::SplitName;
use crate::labelled::{BYTES, ClassifiedBuilder, ClassifiedRows};
use crate::long_range::LongRangeTask;
use crate::report::ReadReport;
use crate::storage::{Bytes, read_file};

/// Names of the classes, in the order of their numbers.
pub(super) const CLASSES: [&str; 10] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];
/// What the files contain.
const FORMAT: &str = "a file of the binary version of CIFAR-10";
/// Pixels of an image.
const N_PIXELS: usize = 32 * 32;
/// Bytes of a record: its label, and the red, the green and the blue plane.
const RECORD: usize = 1 + 3 * N_PIXELS;
/// Maximum records of a file, ten times those of the official ones.
const MAX_RECORDS: usize = 100_000;
/// The folder in the official archive.
const FOLDER: &str = "cifar-10-batches-bin";

/// Reads the images of one part. The last tenth of the training images are for validation.
pub(super) fn open(
    folder: &Path,
    part: SplitName,
    max_length: usize,
) -> Result<ClassifiedRows, DatasetError> {
    let inside = folder.join(FOLDER);
    let folder = if inside.is_dir() { &inside } else { folder };
    let names: Vec<String> = match part {
        SplitName::Test => vec!["test_batch.bin".to_owned()],
        SplitName::Train | SplitName::Valid => {
            (1..=5).map(|n| format!("data_batch_{n}.bin")).collect()
        }
    };
    let mut report = ReadReport::at(folder);
    let mut files = Vec::new();
    for name in &names {
        let path = folder.join(name);
        files.push((read(&path)?, path));
        report.files += 1;
    }
    let n_images: usize = files.iter().map(|(bytes, _)| bytes.len() / RECORD).sum();
    let n_train = n_images - n_images / 10;
    let numbers = match part {
        SplitName::Train => 0..n_train,
        SplitName::Valid => n_train..n_images,
        SplitName::Test => 0..n_images,
    };
    let mut builder = ClassifiedBuilder::new(BYTES, max_length);
    let records = files.iter().flat_map(|(bytes, path)| {
        let records = bytes.chunks_exact(RECORD).enumerate();
        records.map(move |(number, record)| (path, number, record))
    });
    for (path, number, record) in records.skip(numbers.start).take(numbers.len()) {
        push(record, &mut builder).map_err(|found| malformed(path, number, &found))?;
    }
    builder.note_cuts(&mut report);
    Ok(builder.build(LongRangeTask::Image.classes(), report))
}

/// The bytes of a file, after checking its size.
fn read(path: &PathBuf) -> Result<Bytes, DatasetError> {
    let check = |n_bytes: u64| {
        let n_records = n_bytes / RECORD as u64;
        let found = match n_bytes {
            n if n_records == 0 || n % RECORD as u64 != 0 => {
                format!(
                    "it has {n} bytes, which is not a multiple of {RECORD}, the size of an image"
                )
            }
            _ if n_records > MAX_RECORDS as u64 => {
                format!("it has {n_records} images, and at most {MAX_RECORDS} are allowed")
            }
            _ => return Ok(()),
        };
        Err(DatasetError::malformed(path, FORMAT, found))
    };
    // A pipe has no size before it has been read.
    if let Some(metadata) = fs::metadata(path).ok().filter(fs::Metadata::is_file) {
        check(metadata.len())?;
    }
    let bytes = read_file(path)?;
    check(bytes.len() as u64)?;
    Ok(bytes)
}

fn malformed(path: &Path, number: usize, found: &str) -> DatasetError {
    DatasetError::malformed(path, FORMAT, format!("image {number} of it: {found}"))
}

/// Adds an image in gray.
fn push(record: &[u8], builder: &mut ClassifiedBuilder) -> Result<(), String> {
    let class = usize::from(record[0]);
    if class >= CLASSES.len() {
        return Err(format!("its label is {class}, and must be below 10"));
    }
    let (red, rest) = record[1..].split_at(N_PIXELS);
    let (green, blue) = rest.split_at(N_PIXELS);
    let colours = red.iter().zip(green).zip(blue);
    let grays = colours.map(|((&red, &green), &blue)| u16::from(gray([red, green, blue])));
    builder.push(grays, class);
    Ok(())
}

/// The gray of a colour as TensorFlow's `rgb_to_grayscale` has it for bytes: a weighted sum of the
/// channels as fractions, times 255.5, without its decimals.
fn gray(colour: [u8; 3]) -> u8 {
    let [red, green, blue] = colour.map(|channel| f32::from(channel) * (1.0 / 255.0));
    ((0.2989 * red + 0.587 * green + 0.114 * blue) * 255.5) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gray_is_that_of_tensorflow() {
        // Weights sum to 0.9999, so white would be 254 without the half.
        for (colour, expected) in [
            ([0, 0, 0], 0),
            ([255, 255, 255], 255),
            ([255, 0, 0], 76),
            ([0, 255, 0], 149),
            ([0, 0, 255], 29),
            ([59, 62, 63], 61),
        ] {
            assert_eq!(gray(colour), expected, "{colour:?}");
        }
    }
}
