//! Files as they are published: raw, gzip, xz, or the one file of a zip archive.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;
use zip::ZipArchive;

use crate::error::DatasetError;
use crate::storage::{Bytes, Spool, open_file};

/// How the bytes of a file are packed, told by its first bytes and never by its name.
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

    /// The format of a file that starts with these bytes; eight are enough.
    fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            // A first file, or the end of an archive without files.
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Self::Zip,
            _ => Self::Raw,
        }
    }
}

/// The bytes that a file contains: mapped when it is raw, unpacked otherwise.
pub(crate) fn decompressed(path: &Path) -> Result<Bytes, DatasetError> {
    let file = open_file(path)?;
    let raw = Bytes::map(&file).map_err(|source| DatasetError::from_io(path, source))?;
    let format = Format::of(&raw);
    let packed = &*raw;
    let unpacked = match format {
        Format::Raw => return Ok(raw),
        Format::Gzip => spool(gunzip(packed)),
        Format::Xz => spool(XzReader::new(packed, true)),
        Format::Zip => unzip(&file),
    };
    unpacked.map_err(|source| {
        DatasetError::malformed(
            path,
            format!("a {} archive of one file", format.name()),
            source,
        )
    })
}

/// The bytes that a file contains, if they are UTF-8.
pub(crate) fn utf8(path: &Path) -> Result<Bytes, DatasetError> {
    let bytes = decompressed(path)?;
    if let Err(error) = std::str::from_utf8(&bytes) {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let found = format!("line {line} has other bytes");
        return Err(DatasetError::malformed(path, "text in UTF-8", found));
    }
    Ok(bytes)
}

/// Unpacks gzip, also where several members follow each other.
fn gunzip<R: Read>(packed: R) -> impl Read {
    MultiGzDecoder::new(packed)
}

fn spool(mut unpacked: impl Read) -> io::Result<Bytes> {
    let mut spool = Spool::new();
    io::copy(&mut unpacked, &mut spool)?;
    spool.into_bytes()
}

fn unzip(file: &File) -> io::Result<Bytes> {
    let mut archive = ZipArchive::new(BufReader::new(file))?;
    let files = file_indices(&mut archive)?;
    match files[..] {
        [only] => spool(archive.by_index(only)?),
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
        decompressed(file.path()).map(|bytes| bytes.to_vec())
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn truncated_or_spoilt_archives_are_errors_or_whole(cut in 8_usize..1_000, place in 8_usize..1_000) {
            let bytes: Vec<u8> = (0..3_000_u32).map(|i| (i * i % 255) as u8).collect();
            for packed in [gzip(&bytes)?, xz(&bytes)?, zip(&[("a", &bytes)])?] {
                let cut = cut % (packed.len() - 8) + 8;
                prop_assert!(read(&packed[..cut]).is_err());
                let mut spoilt = packed.clone();
                let place = place % (packed.len() - 8) + 8;
                spoilt[place] ^= 0x55;
                // Times and names may be any; the checksums protect the contents.
                if let Ok(read) = read(&spoilt) {
                    prop_assert_eq!(read, bytes.clone());
                }
            }
        }
    }
}
