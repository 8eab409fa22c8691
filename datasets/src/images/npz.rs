//! The official files of downsampled ImageNet.

use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use zip::{CompressionMethod, ZipArchive};

use crate::error::DatasetError;
use crate::images::npy::ByteArray;
use crate::storage::{Bytes, Spool, open_file};

const EXPECTED: &str = "an npz file with images in its array `data`";

/// The pixels of some images: `n_images` rows of `3 * size * size` bytes, the three colours one plane after the other.
pub(super) struct PlanarImages {
    pub(super) bytes: Arc<Bytes>,
    pub(super) range: Range<usize>,
    pub(super) size: usize,
}

/// Opens the array `data` of an npz file (a zip archive of numpy arrays): mapped if it is stored as it is, as
/// `numpy.savez` does, unpacked if it is compressed.
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
        bytes: Arc::new(bytes),
        range: start..start + n_images * row,
        size,
    })
}

/// The bytes of the file `data.npy` in an archive.
fn data_entry(path: &Path) -> Result<(Bytes, Range<usize>), DatasetError> {
    let file = open_file(path)?;
    let unreadable = |source| DatasetError::from_io(path, source);
    let malformed = |error: io::Error| DatasetError::malformed(path, EXPECTED, error);
    let mut archive =
        ZipArchive::new(BufReader::new(&file)).map_err(|error| malformed(error.into()))?;
    let mut entry = archive
        .by_name("data.npy")
        .map_err(|error| malformed(error.into()))?;
    let size = entry.size();
    match (entry.compression(), entry.data_start()) {
        (CompressionMethod::Stored, Some(start)) => {
            let bytes = Bytes::map(&file).map_err(unreadable)?;
            match start.checked_add(size) {
                Some(end) if end <= bytes.len() as u64 => Ok((bytes, start as usize..end as usize)),
                _ => Err(malformed(io::ErrorKind::UnexpectedEof.into())),
            }
        }
        _ => {
            let mut spool = Spool::new();
            io::copy(&mut entry.by_ref().take(size), &mut spool).map_err(malformed)?;
            let bytes = spool.into_bytes().map_err(unreadable)?;
            let len = bytes.len();
            Ok((bytes, 0..len))
        }
    }
}
