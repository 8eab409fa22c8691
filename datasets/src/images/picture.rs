//! Converting sequences to images.

use std::fmt;
use std::path::Path;

use image::imageops::FilterType;
use image::{ImageFormat, RgbImage, imageops};

use crate::error::DatasetError;
use crate::images::decode::decode;
use crate::storage::read_file;

/// A square image, to inspect generated images or training data.
///
/// # Example
///
/// ```
/// use reformer_datasets::images::Picture;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// // Two by two pixels: red, green, blue, white.
/// let tokens = [255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255];
/// let picture = Picture::from_tokens(&tokens).expect("12 is 3 x 2 x 2");
/// assert_eq!(picture.size(), [2, 2]);
/// let grid = Picture::grid(&vec![picture; 5], 3);
/// assert_eq!(grid.size(), [3 * 2 + 2, 2 * 2 + 1]);
/// grid.save_png(folder.path().join("grid.png"))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    pixels: RgbImage,
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Picture")
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

impl Picture {
    /// Converts a sequence to an image: rows of pixels, three tokens each. The tokens are the
    /// targets of a data set, or generated ones. Tokens outside 0 to 255 are clamped.
    ///
    /// `None` when the number of tokens is not 3 x size x size.
    ///
    /// # Shapes
    /// - tokens: `[3 * size * size]`
    pub fn from_tokens(tokens: &[i32]) -> Option<Self> {
        let size = (tokens.len() / 3).isqrt();
        if size == 0 || tokens.len() != 3 * size * size {
            return None;
        }
        let bytes = tokens.iter().map(|&token| token.clamp(0, 255) as u8);
        let side = u32::try_from(size).ok()?;
        let pixels = RgbImage::from_raw(side, side, bytes.collect())?;
        Some(Self { pixels })
    }

    /// Opens a PNG, JPEG, WebP, GIF, BMP or TIFF file, applies its orientation, makes it square.
    ///
    /// # Errors
    /// [`NotFound`](DatasetError::NotFound), [`Unreadable`](DatasetError::Unreadable),
    /// [`Directory`](DatasetError::Directory), or [`Malformed`](DatasetError::Malformed).
    ///
    /// # Panics
    /// When `size` is 0.
    pub fn open(path: impl AsRef<Path>, size: usize) -> Result<Self, DatasetError> {
        assert!(size > 0, "an image has pixels");
        let path = path.as_ref();
        let bytes = read_file(path)?;
        let pixels = decode(&path.display().to_string(), &bytes, size)?;
        Ok(Self { pixels })
    }

    /// Several images in rows of `n_columns`, with a black line between them.
    ///
    /// # Panics
    /// When there are no images, or no columns.
    pub fn grid(pictures: &[Self], n_columns: usize) -> Self {
        assert!(
            !pictures.is_empty() && n_columns > 0,
            "a grid needs images and columns"
        );
        let n_columns = n_columns.min(pictures.len());
        let n_rows = pictures.len().div_ceil(n_columns);
        let cell = |side: fn(&RgbImage) -> u32| {
            let sides = pictures.iter().map(|picture| side(&picture.pixels) + 1);
            sides.max().expect("there are images")
        };
        let (width, height) = (cell(RgbImage::width), cell(RgbImage::height));
        let mut pixels = RgbImage::new(n_columns as u32 * width - 1, n_rows as u32 * height - 1);
        for (index, picture) in pictures.iter().enumerate() {
            let (row, column) = (index / n_columns, index % n_columns);
            let (x, y) = (
                column as i64 * i64::from(width),
                row as i64 * i64::from(height),
            );
            imageops::replace(&mut pixels, &picture.pixels, x, y);
        }
        Self { pixels }
    }

    /// The same, enlarged: each pixel becomes a square with a side of `times` pixels.
    ///
    /// # Panics
    /// When a side of the enlarged picture has more than 2^32 pixels.
    pub fn enlarged(&self, times: u32) -> Self {
        let [width, height] = self.size();
        let side = |pixels: u32| {
            pixels
                .checked_mul(times)
                .expect("a picture of a size that can be")
        };
        let (width, height) = (side(width), side(height));
        let pixels = imageops::resize(&self.pixels, width, height, FilterType::Nearest);
        Self { pixels }
    }

    /// Width and height in pixels.
    pub fn size(&self) -> [u32; 2] {
        [self.pixels.width(), self.pixels.height()]
    }

    /// Red, green and blue of each pixel, row by row.
    pub fn as_bytes(&self) -> &[u8] {
        self.pixels.as_raw()
    }

    /// Writes a PNG file, regardless of the path's extension.
    ///
    /// # Errors
    /// [`Unwritable`](DatasetError::Unwritable).
    pub fn save_png(&self, path: impl AsRef<Path>) -> Result<(), DatasetError> {
        let path = path.as_ref();
        self.pixels
            .save_with_format(path, ImageFormat::Png)
            .map_err(|error| DatasetError::Unwritable {
                path: path.to_owned(),
                reason: error.to_string(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_squares_of_three_colours_are_images() {
        for (len, side) in [
            (3, Some(1)),
            (12_288, Some(64)),
            (0, None),
            (6, None),
            (13, None),
        ] {
            let picture = Picture::from_tokens(&vec![7; len]);
            assert_eq!(
                picture.map(|picture| picture.size()),
                side.map(|side| [side; 2])
            );
        }
    }

    #[test]
    fn tokens_beyond_a_byte_are_brought_back() {
        let picture = Picture::from_tokens(&[-1, 300, 7]).expect("one pixel");
        assert_eq!(picture.as_bytes(), [0, 255, 7]);
    }

    #[test]
    fn grid_puts_images_side_by_side() {
        let pixel = |token| Picture::from_tokens(&[token; 3]).expect("one pixel");
        let grid = Picture::grid(&[pixel(1), pixel(2), pixel(3)], 2);
        assert_eq!(grid.size(), [3, 3]);
        let reds: Vec<u8> = grid.as_bytes().iter().copied().step_by(3).collect();
        assert_eq!(reds, [1, 0, 2, 0, 0, 0, 3, 0, 0]);
        assert_eq!(Picture::grid(&[pixel(9)], 8).size(), [1, 1]);
    }

    #[test]
    fn enlarged_pixels_are_squares() {
        let picture = Picture::from_tokens(&(0..12).collect::<Vec<i32>>()).expect("four pixels");
        let enlarged = picture.enlarged(2);
        assert_eq!(enlarged.size(), [4, 4]);
        let reds: Vec<u8> = enlarged.as_bytes().iter().copied().step_by(3).collect();
        assert_eq!(reds, [0, 0, 3, 3, 0, 0, 3, 3, 6, 6, 9, 9, 6, 6, 9, 9]);
    }

    #[test]
    fn png_gives_the_pixels_back_and_bad_paths_are_named() -> Result<(), Box<dyn std::error::Error>>
    {
        let tokens: Vec<i32> = (0..3 * 5 * 5).map(|i| i * 3 % 256).collect();
        let picture = Picture::from_tokens(&tokens).expect("5 x 5");
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("no-extension");
        picture.save_png(&path)?;
        let read = image::load_from_memory_with_format(&std::fs::read(&path)?, ImageFormat::Png)?;
        assert_eq!(read.into_rgb8().as_raw(), picture.as_bytes());
        assert_eq!(Picture::open(&path, 5)?, picture);
        assert_eq!(Picture::open(&path, 3)?.size(), [3, 3]);
        let none = Picture::open(folder.path().join("none.png"), 3).expect_err("no file");
        assert!(none.to_string().contains("none.png"), "{none}");

        let error = picture
            .save_png(folder.path().join("no/such/folder.png"))
            .expect_err("no folder");
        assert!(
            error.to_string().contains("could not be written"),
            "{error}"
        );
        Ok(())
    }
}
