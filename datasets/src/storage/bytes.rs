//! Bytes, in memory or in a temporary file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Deref;
use std::sync::Arc;

use memmap2::Mmap;
use tempfile::{SpooledData, SpooledTempFile};

/// Maximum bytes kept in memory: enough for enwik8 or 20,000 images of 64 x 64. More go to an
/// unnamed file in the system's temporary folder, which is deleted after its last use.
const MAX_IN_MEMORY: u64 = 256 << 20;

/// Bytes in memory, or in an unnamed file, of which the system reads a page at its first access.
/// They never change. Clones share them.
#[derive(Clone)]
pub(crate) struct Bytes {
    storage: Arc<Storage>,
    /// Number of bytes at the start that do not belong to them.
    start: usize,
}

enum Storage {
    /// A part of the program.
    Static(&'static [u8]),
    /// In memory.
    Owned(Vec<u8>),
    /// In an unnamed file.
    Mapped(Mmap),
}

impl From<Storage> for Bytes {
    fn from(storage: Storage) -> Self {
        Self {
            storage: Arc::new(storage),
            start: 0,
        }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Storage::Owned(bytes).into()
    }
}

impl From<&'static [u8]> for Bytes {
    fn from(bytes: &'static [u8]) -> Self {
        Storage::Static(bytes).into()
    }
}

impl Bytes {
    /// A copy of the first `len` bytes of a file, or of all if it has fewer by now. Files with a
    /// name are never mapped, since reading from a map of a file that another program truncates
    /// ends the process.
    pub(crate) fn snapshot(file: &File, len: u64) -> io::Result<Self> {
        if len <= MAX_IN_MEMORY {
            let mut bytes = Vec::with_capacity(len as usize);
            file.take(len).read_to_end(&mut bytes)?;
            return Ok(bytes.into());
        }
        let copy = tempfile::tempfile()?;
        copy_data(file, &copy, len)?;
        Self::map_unnamed(&copy)
    }

    /// Maps an unnamed file.
    fn map_unnamed(file: &File) -> io::Result<Self> {
        // SAFETY: `Mmap::map` requires that the file does not change while it is mapped, since a
        // `&[u8]` guarantees constant bytes. A file of `tempfile` has no name, so no other program
        // opens it, and nothing in this crate writes to it after mapping. The map keeps its own
        // reference to the file.
        let map = unsafe { Mmap::map(file) }?;
        Ok(Storage::Mapped(map).into())
    }

    /// The same without the first `n` bytes.
    pub(crate) fn without_first(mut self, n: usize) -> Self {
        self.start = (self.start + n).min(self.start + self.len());
        self
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let bytes = match &*self.storage {
            Storage::Static(bytes) => bytes,
            Storage::Owned(bytes) => bytes.as_slice(),
            Storage::Mapped(map) => map,
        };
        &bytes[self.start..]
    }
}

/// Copies the first `len` bytes of a file, or all if it has fewer by now. Holes stay holes, and
/// where the file system can, it shares the blocks instead of copying them.
#[cfg(target_os = "linux")]
fn copy_data(mut file: &File, mut copy: &File, len: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom};
    use std::os::unix::fs::MetadataExt;

    use rustix::fs::{self, SeekFrom as Place};
    use rustix::io::Errno;

    let disk = fs::statvfs(std::env::temp_dir())?;
    let (available, blocks) = (disk.f_bavail, file.metadata()?.blocks());
    if available.saturating_mul(disk.f_frsize) < blocks.saturating_mul(512).min(len) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    copy.set_len(len.min(file.metadata()?.len()))?;
    let mut end = 0;
    while end < len {
        let start = match fs::seek(file, Place::Data(end)) {
            Ok(start) if start < len => start,
            // There is no more data.
            Ok(_) | Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        end = fs::seek(file, Place::Hole(start))?.min(len);
        file.seek(SeekFrom::Start(start))?;
        copy.seek(SeekFrom::Start(start))?;
        io::copy(&mut file.take(end - start), &mut copy)?;
    }
    Ok(())
}

/// Copies the first `len` bytes of a file, or all if it has fewer by now.
#[cfg(not(target_os = "linux"))]
fn copy_data(file: &File, mut copy: &File, len: u64) -> io::Result<()> {
    io::copy(&mut file.take(len), &mut copy).map(drop)
}

/// Collects bytes whose number is not known in advance.
pub(crate) struct Spool {
    file: SpooledTempFile,
}

impl Spool {
    pub(crate) fn new() -> Self {
        Self::up_to(MAX_IN_MEMORY as usize)
    }

    fn up_to(max_in_memory: usize) -> Self {
        Self {
            file: SpooledTempFile::new(max_in_memory),
        }
    }

    /// The bytes written so far.
    pub(crate) fn into_bytes(self) -> io::Result<Bytes> {
        match self.file.into_inner() {
            SpooledData::InMemory(bytes) => Ok(bytes.into_inner().into()),
            SpooledData::OnDisk(mut file) => {
                file.flush()?;
                Bytes::map_unnamed(&file)
            }
        }
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom};

    use super::*;

    #[test]
    fn spool_moves_to_disk_and_keeps_every_byte() -> io::Result<()> {
        for (len, in_memory) in [(0, true), (1_000, true), (1_001, false), (50_000, false)] {
            let written: Vec<u8> = (0..len).map(|i| (i * 7 % 251) as u8).collect();
            let mut spool = Spool::up_to(1_000);
            for part in written.chunks(300) {
                spool.write_all(part)?;
            }
            let bytes = spool.into_bytes()?;
            assert_eq!(*bytes, *written);
            let is_owned = matches!(*bytes.storage, Storage::Owned(_));
            assert_eq!(is_owned, in_memory, "{len} bytes");
        }
        Ok(())
    }

    #[test]
    fn snapshot_stays_when_its_file_is_cut() -> io::Result<()> {
        // One that fits into memory, and one that does not: a hole, which takes no space on the
        // disk.
        for len in [100_000, MAX_IN_MEMORY + 1] {
            let mut file = tempfile::tempfile()?;
            file.write_all(b"start")?;
            file.set_len(len)?;
            file.seek(SeekFrom::Start(50_000))?;
            file.write_all(b"middle")?;
            file.rewind()?;
            let bytes = Bytes::snapshot(&file, len)?;
            file.set_len(0)?;
            assert_eq!(bytes.len() as u64, len);
            assert!(bytes.starts_with(b"start\0") && bytes.ends_with(b"\0"));
            assert_eq!(bytes[49_999..50_007], *b"\0middle\0");
        }
        Ok(())
    }

    #[test]
    fn first_bytes_can_be_left_out() {
        let bytes = Bytes::from(b"abc".to_vec()).without_first(1);
        assert_eq!(*bytes, *b"bc");
        assert_eq!(*bytes.without_first(9), *b"");
    }
}
