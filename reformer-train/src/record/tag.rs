//! The end of a record file: a tag of its owner, and a checksum.
//!
//! Burn's own recorder ignores both.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Marks before the checksum of a file with a tag, and of one of an older version without.
const MARKS: [&[u8; 4]; 2] = [b"tag=", b"crc="];
/// Maximum size of a tag in bytes.
const MAX_TAG: u32 = 1 << 20;

/// The owner of a record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tag {
    /// The file's name without its extension, which names part and step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// The run. Final weights have none: equal weights are equal files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) run: Option<String>,
    /// Configuration of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<Value>,
}

/// The length of a record's bytes and the tag behind them.
#[derive(Debug)]
pub(super) struct Verified {
    /// Bytes of the record.
    pub(super) length: u64,
    pub(super) tag: Tag,
}

/// Writes a record by `write`, then its tag, then a checksum of both.
pub(super) fn write_tagged<W: Write>(
    writer: W,
    tag: &Tag,
    write: impl FnOnce(&mut Summed<W>) -> io::Result<()>,
) -> io::Result<()> {
    let mut writer = Summed::new(writer);
    write(&mut writer)?;
    let tag = serde_json::to_vec(tag)?;
    writer.write_all(&tag)?;
    writer.write_all(&(tag.len() as u32).to_le_bytes())?;
    let checksum = writer.sum.finalize();
    writer.inner.write_all(MARKS[0])?;
    writer.inner.write_all(&checksum.to_le_bytes())
}

fn wrong(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Verifies the checksum, and leaves the file at its start. The whole file is read before
/// any tensor is built: a flipped bit in a weight still gives a valid number.
pub(super) fn verify(file: &mut File) -> io::Result<Verified> {
    let content = file
        .metadata()?
        .len()
        .checked_sub(8)
        .ok_or_else(|| wrong("it is too short"))?;
    let mut summed = Summed::new(io::sink());
    let mut reader = BufReader::new(&mut *file);
    io::copy(&mut (&mut reader).take(content), &mut summed)?;
    let (mut mark, mut checksum) = ([0; 4], [0; 4]);
    reader.read_exact(&mut mark)?;
    reader.read_exact(&mut checksum)?;
    if !MARKS.contains(&&mark) || u32::from_le_bytes(checksum) != summed.sum.finalize() {
        return Err(wrong("its checksum is wrong"));
    }
    let verified = match &mark == MARKS[0] {
        true => read_tag(file, content)?,
        false => Verified {
            length: content,
            tag: Tag::default(),
        },
    };
    file.seek(SeekFrom::Start(0))?;
    Ok(verified)
}

/// The length and a checksum of a record's bytes, without the tag.
pub(super) fn sum_of_content(file: &mut File) -> io::Result<(u64, u32)> {
    let length = verify(file)?.length;
    let mut summed = Summed::new(io::sink());
    io::copy(&mut file.take(length), &mut summed)?;
    Ok((length, summed.sum.finalize()))
}

/// The tag behind a content of `content` bytes.
fn read_tag(file: &mut File, content: u64) -> io::Result<Verified> {
    let no_tag = || wrong("it does not say whose it is");
    let end = content.checked_sub(4).ok_or_else(no_tag)?;
    file.seek(SeekFrom::Start(end))?;
    let mut size = [0; 4];
    file.read_exact(&mut size)?;
    let size = u32::from_le_bytes(size);
    let length = end.checked_sub(size.into()).filter(|_| size <= MAX_TAG);
    let length = length.ok_or_else(no_tag)?;
    file.seek(SeekFrom::Start(length))?;
    let mut tag = vec![0; size as usize];
    file.read_exact(&mut tag)?;
    let tag = serde_json::from_slice(&tag).map_err(|_| no_tag())?;
    Ok(Verified { length, tag })
}

/// A writer that computes a checksum.
pub(super) struct Summed<W> {
    inner: W,
    sum: crc32fast::Hasher,
}

impl<W> Summed<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            sum: crc32fast::Hasher::new(),
        }
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.sum.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
