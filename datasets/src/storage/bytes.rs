//! Bytes, wherever they lie.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Deref;

use memmap2::Mmap;
use tempfile::{SpooledData, SpooledTempFile};

/// Bytes in memory or in a mapped file, of which the system reads a page when it is first looked at.
pub(crate) enum Bytes {
    /// Part of the program.
    Static(&'static [u8]),
    /// In memory.
    Owned(Vec<u8>),
    /// In a file.
    Mapped(Mmap),
}

impl Bytes {
    /// Maps a file: nothing is read yet, whatever its size.
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        // Not every system can map no bytes.
        if file.metadata()?.len() == 0 {
            return Ok(Self::Owned(Vec::new()));
        }
        // SAFETY: `Mmap::map` asks that the file does not change while it is mapped, since a `&[u8]` promises
        // bytes that stay as they are. We only read: nothing in this crate writes to a file after mapping it.
        // Files of a `Spool` have no name, so nobody else can open them. For files that the user names we rely
        // on the user, as the documentation of `ByteCorpus::open` says: a data set that another program
        // rewrites or cuts while a run reads it is no data set. The map keeps its own hold on the file, so
        // closing `file`, or deleting the name, does no harm.
        let map = unsafe { Mmap::map(file) }?;
        Ok(Self::Mapped(map))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

/// Takes bytes of which nobody knows yet how many there will be: in memory at first, from
/// [`MAX_IN_MEMORY`](Self::MAX_IN_MEMORY) on in a file without a name in the system's temporary folder,
/// which vanishes with the last use of the bytes.
pub(crate) struct Spool {
    file: SpooledTempFile,
}

impl Spool {
    /// Enough for enwik8 or 20,000 images of 64 x 64.
    const MAX_IN_MEMORY: usize = 256 << 20;

    pub(crate) fn new() -> Self {
        Self::up_to(Self::MAX_IN_MEMORY)
    }

    fn up_to(max_in_memory: usize) -> Self {
        Self {
            file: SpooledTempFile::new(max_in_memory),
        }
    }

    /// What was written.
    pub(crate) fn into_bytes(self) -> io::Result<Bytes> {
        match self.file.into_inner() {
            SpooledData::InMemory(bytes) => Ok(Bytes::Owned(bytes.into_inner())),
            SpooledData::OnDisk(mut file) => {
                file.flush()?;
                Bytes::map(&file)
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
            assert_eq!(matches!(bytes, Bytes::Owned(_)), in_memory, "{len} bytes");
        }
        Ok(())
    }

    #[test]
    fn empty_file_maps_to_no_bytes() -> io::Result<()> {
        assert!(Bytes::map(&tempfile::tempfile()?)?.is_empty());
        Ok(())
    }
}
