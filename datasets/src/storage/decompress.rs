//! Unpacking published files: raw, gzip, xz, or a zip archive with a single file.

use std::io::{self, Cursor, ErrorKind, Read, Seek};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;
use zip::ZipArchive;

use crate::error::DatasetError;
use crate::storage::{Bytes, Spool, read_file};

/// The compression format of a file, detected by its first bytes and never by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Raw,
    Gzip,
    Xz,
    Zip,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zip => "zip",
        }
    }

    /// The format of a file that starts with these bytes; eight bytes are enough.
    fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            // The first file, or the end of an archive without files.
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Self::Zip,
            _ => Self::Raw,
        }
    }
}

/// Maximum ratio of unpacked and packed size above [`ALWAYS_ALLOWED`]. Text has 3 to 10.
const MAX_RATIO: u64 = 20;
/// Number of unpacked bytes that is allowed for any archive.
const ALWAYS_ALLOWED: u64 = 16 << 20;

/// The content of a file: unpacked if it is packed.
pub(crate) fn unpacked(path: &Path) -> Result<Bytes, DatasetError> {
    let raw = read_file(path)?;
    let (packed, format) = (&*raw, Format::of(&raw));
    let unpacked = match format {
        Format::Raw => return Ok(raw),
        Format::Gzip => unpack(MultiGzDecoder::new(packed), packed.len()),
        Format::Xz => unpack(XzReader::new(packed, true), packed.len()),
        Format::Zip => unzip(packed),
    };
    let expected = || format!("a {} archive of one file", format.name());
    unpacked.map_err(|source| unpack_error(path, packed.len(), expected(), source))
}

/// Maximum number of unpacked bytes.
fn limit(n_packed: usize) -> u64 {
    ALWAYS_ALLOWED.max(MAX_RATIO.saturating_mul(n_packed as u64))
}

/// Reads the unpacked content of an archive of `n_packed` bytes. More than the [`limit`] is
/// [`FileTooLarge`](ErrorKind::FileTooLarge).
pub(crate) fn unpack(unpacked: impl Read, n_packed: usize) -> io::Result<Bytes> {
    let limit = limit(n_packed);
    let mut spool = Spool::new();
    // One byte more, to detect whether there is more.
    if io::copy(&mut unpacked.take(limit + 1), &mut spool)? > limit {
        return Err(ErrorKind::FileTooLarge.into());
    }
    spool.into_bytes()
}

/// The error of a file with `n_packed` bytes and an expected format that could not be unpacked.
pub(crate) fn unpack_error(
    path: &Path,
    n_packed: usize,
    expected: String,
    source: io::Error,
) -> DatasetError {
    match source.kind() {
        // An error of the system about the temporary folder has a number.
        ErrorKind::FileTooLarge if source.raw_os_error().is_none() => DatasetError::Bomb {
            path: path.to_owned(),
            limit: limit(n_packed),
        },
        _ if source.raw_os_error().is_some() => DatasetError::from_io(path, source),
        _ => DatasetError::malformed(path, expected, source),
    }
}

fn unzip(packed: &[u8]) -> io::Result<Bytes> {
    let mut archive = ZipArchive::new(Cursor::new(packed))?;
    let files = file_indices(&mut archive)?;
    match files[..] {
        [only] => unpack(archive.by_index(only)?, packed.len()),
        _ => Err(io::Error::other(format!("it has {} files", files.len()))),
    }
}

fn file_indices(archive: &mut ZipArchive<impl Read + Seek>) -> io::Result<Vec<usize>> {
    let mut files = Vec::new();
    for index in 0..archive.len() {
        if archive.by_index_raw(index)?.is_file() {
            files.push(index);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use lzma_rust2::{XzOptions, XzWriter};
    use proptest::prelude::*;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut writer = GzEncoder::new(Vec::new(), Compression::fast());
        writer.write_all(bytes)?;
        writer.finish()
    }

    fn xz(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(1))?;
        writer.write_all(bytes)?;
        writer.finish()
    }

    fn zip(files: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
        let mut writer = ZipWriter::new(io::Cursor::new(Vec::new()));
        writer.add_directory("folder/", SimpleFileOptions::default())?;
        for (name, bytes) in files {
            writer.start_file(*name, SimpleFileOptions::default())?;
            writer.write_all(bytes)?;
        }
        Ok(writer.finish()?.into_inner())
    }

    fn read(packed: &[u8]) -> Result<Vec<u8>, DatasetError> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), packed).expect("it can be written");
        unpacked(file.path()).map(|bytes| bytes.to_vec())
    }

    #[test]
    fn every_format_gives_the_bytes() -> Result<(), Box<dyn Error>> {
        let bytes: Vec<u8> = (0..20_000_u32).map(|i| (i * i % 255) as u8).collect();
        let packed = [
            gzip(&bytes)?,
            [gzip(&bytes[..7])?, gzip(&bytes[7..])?].concat(),
            xz(&bytes)?,
            zip(&[("folder/enwik8", &bytes)])?,
        ];
        for packed in packed {
            assert_ne!(Format::of(&packed), Format::Raw);
            assert!(packed.len() < bytes.len());
            assert_eq!(read(&packed)?, bytes);
        }
        assert_eq!(read(&bytes)?, bytes);
        assert_eq!(read(b"")?, b"");
        Ok(())
    }

    #[test]
    fn archives_of_no_or_two_files_are_refused() -> Result<(), Box<dyn Error>> {
        for (files, found) in [
            (&[][..], "it has 0 files"),
            (&[("a", &b"x"[..]), ("b", b"y")][..], "it has 2 files"),
        ] {
            let error = read(&zip(files)?).expect_err("not one file");
            assert!(
                error
                    .to_string()
                    .contains("is not a zip archive of one file"),
                "{error}"
            );
            assert!(error.to_string().contains(found), "{error}");
        }
        Ok(())
    }

    #[test]
    fn bombs_are_refused() -> Result<(), Box<dyn Error>> {
        let zeros = vec![0; ALWAYS_ALLOWED as usize + 1];
        for packed in [gzip(&zeros)?, xz(&zeros)?, zip(&[("a", &zeros)])?] {
            let error = read(&packed).expect_err("a bomb").to_string();
            assert!(
                error.contains("more than 16,777,216 bytes")
                    && error.contains("unpack it and name the result"),
                "{error}"
            );
        }
        assert_eq!(read(&gzip(&zeros[1..])?)?.len(), zeros.len() - 1);
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn truncated_or_spoilt_archives_are_errors_or_whole(cut in 8_usize..1_000, position in 8_usize..1_000) {
            let bytes: Vec<u8> = (0..3_000_u32).map(|i| (i * i % 255) as u8).collect();
            for packed in [gzip(&bytes)?, xz(&bytes)?, zip(&[("a", &bytes)])?] {
                let cut = cut % (packed.len() - 8) + 8;
                prop_assert!(read(&packed[..cut]).is_err());
                let mut spoilt = packed.clone();
                let position = position % (packed.len() - 8) + 8;
                spoilt[position] ^= 0x55;
                // Times and names may change; the checksums protect the contents.
                if let Ok(read) = read(&spoilt) {
                    prop_assert_eq!(read, bytes.clone());
                }
            }
        }
    }
}
