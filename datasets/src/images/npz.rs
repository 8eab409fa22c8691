//! The official files of downsampled ImageNet.

use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::path::Path;

use zip::{CompressionMethod, ZipArchive};

use crate::error::DatasetError;
use crate::images::npy::ByteArray;
use crate::storage::{Bytes, read_file, unpack, unpack_error};

const EXPECTED: &str = "an npz file with images in its array `data`";

/// The pixels of some images: `n_images` rows of `3 * size * size` bytes, as colour planes.
pub(super) struct PlanarImages {
    pub(super) bytes: Bytes,
    pub(super) range: Range<usize>,
    pub(super) size: usize,
}

/// Opens the array `data` of an npz file (a zip archive of numpy arrays): stored, as written by
/// `numpy.savez`, or compressed.
pub(super) fn open(path: &Path) -> Result<PlanarImages, DatasetError> {
    let malformed = |found: String| DatasetError::malformed(path, EXPECTED, found);
    let (bytes, range) = data_entry(path)?;
    let array = ByteArray::parse(&bytes[range.clone()]).map_err(malformed)?;
    let [n_images, row] = array.shape[..] else {
        return Err(malformed(format!("its shape is {:?}", array.shape)));
    };
    let size = (row / 3).isqrt();
    if row == 0 || 3 * size * size != row {
        let found = format!(
            "its shape is {:?}, and {row} is not 3 x size x size",
            array.shape
        );
        return Err(malformed(found));
    }
    let start = range.start + array.offset;
    Ok(PlanarImages {
        bytes,
        range: start..start + n_images * row,
        size,
    })
}

/// The bytes of the file `data.npy` in an archive.
fn data_entry(path: &Path) -> Result<(Bytes, Range<usize>), DatasetError> {
    let malformed = |error: io::Error| DatasetError::malformed(path, EXPECTED, error);
    let bytes = read_file(path)?;
    let mut archive =
        ZipArchive::new(Cursor::new(&bytes[..])).map_err(|error| malformed(error.into()))?;
    let entry = archive
        .by_name("data.npy")
        .map_err(|error| malformed(error.into()))?;
    let size = entry.size();
    if let (CompressionMethod::Stored, Some(start)) = (entry.compression(), entry.data_start()) {
        let end = start
            .checked_add(size)
            .filter(|&end| end <= bytes.len() as u64);
        let end = end.ok_or_else(|| malformed(io::ErrorKind::UnexpectedEof.into()))?;
        return Ok((bytes.clone(), start as usize..end as usize));
    }
    let array = unpack(entry.take(size), bytes.len());
    let array =
        array.map_err(|source| unpack_error(path, bytes.len(), EXPECTED.to_owned(), source))?;
    let len = array.len();
    Ok((array, 0..len))
}
