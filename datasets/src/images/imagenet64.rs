//! Downsampled ImageNet, from the folder with its files.

use std::path::Path;

use crate::error::DatasetError;
use crate::images::set::ImageSet;

/// Downsampled ImageNet of 64 x 64 pixels (Chrabaszcz, Loshchilov and Hutter, 2017, "A downsampled
/// variant of ImageNet as an alternative to the CIFAR datasets"): 1,281,167 images for training and
/// 49,999 or 50,000 for validation.
///
/// # Example
///
/// ```no_run
/// use reformer_datasets::Sequences;
/// use reformer_datasets::images::ImageNet64;
///
/// # fn main() -> Result<(), reformer_datasets::DatasetError> {
/// let images = ImageNet64::open("data/imagenet64")?;
/// assert_eq!(images.train.len(), 1_281_167);
/// assert_eq!(images.train.seq_length(), 12_288);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ImageNet64 {
    /// The training set.
    pub train: ImageSet,
    /// The validation set.
    pub valid: ImageSet,
}

impl ImageNet64 {
    /// Opens a folder with `val_data.npz` and `train_data_batch_1.npz` to
    /// `train_data_batch_10.npz`, or those before the first missing one: see
    /// [`ImageSet::open_npz`].
    ///
    /// The variants of 8, 16 and 32 pixels have files of the same format, and can be opened too.
    ///
    /// # Errors
    /// Those of [`ImageSet::open_npz`].
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let folder = folder.as_ref();
        let batch = |number: usize| folder.join(format!("train_data_batch_{number}.npz"));
        let valid = ImageSet::open_npz(folder.join("val_data.npz"))?;
        let mut train = ImageSet::open_npz(batch(1))?;
        for path in (2..).map(batch).take_while(|path| path.exists()) {
            train = train.followed_by(ImageSet::open_npz(path)?);
        }
        Ok(Self { train, valid })
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fs::File;
    use std::io::Write;

    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;
    use crate::images::npy::tests::npy;
    use crate::sequences::Sequences;

    /// A file as `numpy.savez` writes it, with the arrays of the official ones.
    fn write_npz(
        path: &Path,
        shape: &str,
        pixels: &[u8],
        method: CompressionMethod,
    ) -> Result<(), Box<dyn Error>> {
        let mut archive = ZipWriter::new(File::create(path)?);
        // numpy reserves 64-bit sizes for every array.
        let options = SimpleFileOptions::default()
            .compression_method(method)
            .large_file(true);
        for (name, array) in [
            ("labels.npy", npy("<i8", "(2,)", &[0; 16])),
            ("data.npy", npy("|u1", shape, pixels)),
            ("mean.npy", npy("<f8", "(12,)", &[0; 96])),
        ] {
            archive.start_file(name, options)?;
            archive.write_all(&array)?;
        }
        archive.finish()?;
        Ok(())
    }

    #[test]
    fn planes_become_pixels_whether_stored_or_compressed() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("batch.npz");
        // Image 0: red 0 to 3, green 10 to 13, blue 20 to 23; image 1: 100 more.
        let planes = [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23];
        let both = [planes, planes.map(|value| value + 100)].concat();
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            write_npz(&path, "(2, 12)", &both, method)?;
            let images = ImageSet::open_npz(&path)?;
            assert_eq!((images.len(), images.size()), (2, 2));
            let (mut tokens, mut targets) = ([9; 12], [9; 12]);
            images.read(1, &mut tokens, &mut targets);
            assert_eq!(
                targets,
                [100, 110, 120, 101, 111, 121, 102, 112, 122, 103, 113, 123]
            );
            assert_eq!(tokens[0], 0);
            assert_eq!(tokens[1..], targets[..11]);
        }
        Ok(())
    }

    #[test]
    fn folder_of_batches_is_read_in_the_order_of_their_numbers() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let stored = CompressionMethod::Stored;
        for number in 1..=10 {
            let path = folder.path().join(format!("train_data_batch_{number}.npz"));
            write_npz(&path, "(2, 3)", &[number; 6], stored)?;
        }
        write_npz(
            &folder.path().join("val_data.npz"),
            "(1, 3)",
            &[99; 3],
            stored,
        )?;
        let ImageNet64 { train, valid } = ImageNet64::open(folder.path())?;
        assert_eq!((train.len(), valid.len()), (20, 1));
        let first_bytes: Vec<u8> = (0..20).map(|i| train.picture(i).as_bytes()[0]).collect();
        let expected: Vec<u8> = (1..=10).flat_map(|number| [number; 2]).collect();
        assert_eq!(first_bytes, expected);
        assert_eq!(valid.picture(0).as_bytes(), [99; 3]);
        Ok(())
    }

    #[test]
    fn files_that_are_something_else_are_named() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("batch.npz");
        let stored = CompressionMethod::Stored;
        let error = || {
            ImageSet::open_npz(&path)
                .expect_err("something is wrong")
                .to_string()
        };

        write_npz(&path, "(2, 13)", &[0; 26], stored)?;
        assert!(error().contains("13 is not 3 x size x size"), "{}", error());
        write_npz(&path, "(12,)", &[0; 12], stored)?;
        assert!(error().contains("its shape is [12]"), "{}", error());
        write_npz(&path, "(2, 12)", &[0; 23], stored)?;
        assert!(
            error().contains("needs more than its 23 bytes"),
            "{}",
            error()
        );
        write_npz(&path, "(0, 12)", &[], stored)?;
        assert!(error().contains("has no image in it"), "{}", error());
        std::fs::write(&path, b"not a zip archive")?;
        assert!(
            error().contains("is not an npz file with images"),
            "{}",
            error()
        );
        std::fs::remove_file(&path)?;
        assert!(error().contains("there is no file"), "{}", error());
        Ok(())
    }

    #[test]
    fn every_truncation_is_an_error() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("batch.npz");
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            write_npz(&path, "(2, 12)", &[7; 24], method)?;
            let whole = std::fs::read(&path)?;
            for len in 0..whole.len() {
                std::fs::write(&path, &whole[..len])?;
                assert!(
                    ImageSet::open_npz(&path).is_err(),
                    "{len} of {}",
                    whole.len()
                );
            }
        }
        Ok(())
    }
}
