//! Reading text files, independent of compression, encoding and line ends.

use std::io::{self, Write};
use std::path::Path;

use encoding_rs::{DecoderResult, Encoding, UTF_16BE, UTF_16LE};

use crate::error::DatasetError;
use crate::report::ReadReport;
use crate::storage::{Bytes, Spool, unpacked};

/// The byte order mark of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Number of bytes that are inspected to detect UTF-16 without a byte order mark.
const N_EXAMINED: usize = 1_024;

/// The text of a file: unpacked, in UTF-8, without a byte order mark, with line feeds as line ends.
/// The report counts the file, and lists the conversions.
pub(crate) fn read_text(path: &Path, report: &mut ReadReport) -> Result<Bytes, DatasetError> {
    let unreadable = |source| DatasetError::from_io(path, source);
    let malformed = |found: &str| DatasetError::malformed(path, "text in UTF-8 or UTF-16", found);
    let bytes = unpacked(path)?;
    if is_utf32(&bytes) {
        return Err(malformed("it is UTF-32: save it as UTF-8"));
    }
    let encoding = utf16_mark(&bytes).or_else(|| utf16_without_mark(&bytes));
    let text = match encoding {
        None => without_mark(bytes),
        Some((encoding, start)) => {
            let text = decode(&bytes[start..], encoding).map_err(unreadable)?;
            report.note(format!("decoded from {}", encoding.name()));
            text.ok_or_else(|| {
                malformed(&format!(
                    "it is {}, but damaged or truncated",
                    encoding.name()
                ))
            })?
        }
    };
    if let Err(error) = str::from_utf8(&text) {
        let before = &text[..error.valid_up_to()];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        return Err(malformed(&format!(
            "line {line} has bytes that are neither"
        )));
    }
    report.files += 1;
    if text.contains(&b'\r') && !text.contains(&b'\n') {
        report.note("lines end with carriage returns only");
        let lines = text
            .iter()
            .map(|&byte| if byte == b'\r' { b'\n' } else { byte });
        return Ok(lines.collect::<Vec<u8>>().into());
    }
    Ok(text)
}

/// The text of a file as data sets read it: unpacked, decoded from UTF-16, without a byte order
/// mark, with line feeds as line ends.
///
/// # Errors
/// A file that cannot be read or unpacked, or that is not text.
pub fn read_text_file(path: impl AsRef<Path>) -> Result<String, DatasetError> {
    let text = read_text(path.as_ref(), &mut ReadReport::default())?;
    Ok(as_str(&text).to_owned())
}

/// The bytes of a file of any kind, unchanged except for text with a byte order mark: the mark is
/// removed, and UTF-16 is decoded.
pub(crate) fn without_marks(
    path: &Path,
    bytes: Bytes,
    report: &mut ReadReport,
) -> Result<Bytes, DatasetError> {
    if is_utf32(&bytes) {
        return Ok(bytes);
    }
    if let Some((encoding, start)) = utf16_mark(&bytes) {
        let text = decode(&bytes[start..], encoding);
        // Bytes that only start like a byte order mark are not text.
        if let Some(text) = text.map_err(|source| DatasetError::from_io(path, source))? {
            report.note(format!("decoded from {}", encoding.name()));
            return Ok(text);
        }
    }
    Ok(without_mark(bytes))
}

/// Text that was checked by [`read_text`].
pub(crate) fn as_str(text: &[u8]) -> &str {
    str::from_utf8(text).expect("it was checked when it was read")
}

/// The same bytes without a byte order mark of UTF-8 at their start.
pub(crate) fn without_mark(bytes: Bytes) -> Bytes {
    match bytes.starts_with(BYTE_ORDER_MARK) {
        true => bytes.without_first(BYTE_ORDER_MARK.len()),
        false => bytes,
    }
}

fn is_utf32(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xfe, 0, 0]) || bytes.starts_with(&[0, 0, 0xfe, 0xff])
}

/// The encoding of a UTF-16 byte order mark, and the start of the text after it.
fn utf16_mark(bytes: &[u8]) -> Option<(&'static Encoding, usize)> {
    match bytes {
        [0xff, 0xfe, ..] => Some((UTF_16LE, 2)),
        [0xfe, 0xff, ..] => Some((UTF_16BE, 2)),
        _ => None,
    }
}

/// UTF-16 of mostly ASCII, which has a zero in every other byte. Text in UTF-8 has none.
fn utf16_without_mark(bytes: &[u8]) -> Option<(&'static Encoding, usize)> {
    let start = &bytes[..bytes.len().min(N_EXAMINED)];
    let n_zeros = |first: usize| {
        start
            .iter()
            .skip(first)
            .step_by(2)
            .filter(|&&byte| byte == 0)
            .count()
    };
    let is_most = |n: usize| n > 0 && 5 * n > start.len();
    match (n_zeros(0), n_zeros(1)) {
        (0, odd) if is_most(odd) => Some((UTF_16LE, 0)),
        (even, 0) if is_most(even) => Some((UTF_16BE, 0)),
        _ => None,
    }
}

/// Converts UTF-16 to UTF-8; `None` where it is damaged.
fn decode(mut rest: &[u8], encoding: &'static Encoding) -> io::Result<Option<Bytes>> {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let (mut spool, mut decoded) = (Spool::new(), vec![0; 1 << 16]);
    loop {
        let (result, n_read, n_written) =
            decoder.decode_to_utf8_without_replacement(rest, &mut decoded, true);
        spool.write_all(&decoded[..n_written])?;
        rest = &rest[n_read..];
        match result {
            DecoderResult::InputEmpty => return spool.into_bytes().map(Some),
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(..) => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<(String, ReadReport), DatasetError> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), bytes).expect("it can be written");
        let mut report = ReadReport::default();
        let text = read_text(file.path(), &mut report)?;
        Ok((as_str(&text).to_owned(), report))
    }

    fn utf16(text: &str, of_unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(of_unit).collect()
    }

    #[test]
    fn text_is_decoded_whatever_it_is_encoded_as() -> Result<(), DatasetError> {
        let text = "Grüße, 🗼!\r\nEnde\n";
        let marked = format!("\u{feff}{text}");
        for (bytes, note) in [
            (text.as_bytes().to_vec(), None),
            (marked.as_bytes().to_vec(), None),
            (
                utf16(&marked, u16::to_le_bytes),
                Some("decoded from UTF-16LE"),
            ),
            (
                utf16(&marked, u16::to_be_bytes),
                Some("decoded from UTF-16BE"),
            ),
            (utf16(text, u16::to_le_bytes), Some("decoded from UTF-16LE")),
            (utf16(text, u16::to_be_bytes), Some("decoded from UTF-16BE")),
        ] {
            let (read, report) = read(&bytes)?;
            assert_eq!(read, text);
            assert_eq!(report.notes.first().map(String::as_str), note);
            assert_eq!(report.files, 1);
        }
        Ok(())
    }

    #[test]
    fn carriage_returns_alone_end_lines_where_nothing_else_does() -> Result<(), DatasetError> {
        let (lines, report) = read(b"one\rtwo\r")?;
        assert_eq!(lines, "one\ntwo\n");
        assert_eq!(report.notes, ["lines end with carriage returns only"]);
        assert_eq!(read(b"one\rtwo\n")?.0, "one\rtwo\n");
        Ok(())
    }

    #[test]
    fn what_is_no_text_is_named() {
        for (bytes, found) in [
            (&b"one\ntwo\xff"[..], "line 2 has bytes that are neither"),
            (b"\xff\xfea\0\x00\xd8b\0", "it is UTF-16LE, but damaged"),
            (b"\xff\xfea\0b", "it is UTF-16LE, but damaged or truncated"),
            (b"\xff\xfe\0\0a\0\0\0", "it is UTF-32"),
        ] {
            let error = read(bytes).expect_err("no text").to_string();
            assert!(error.contains(found), "{error}");
        }
    }

    #[test]
    fn other_bytes_stay_as_they_are() -> Result<(), DatasetError> {
        let of = |bytes: &[u8]| {
            let mut report = ReadReport::default();
            without_marks(Path::new("x"), bytes.to_vec().into(), &mut report)
                .map(|read| read.to_vec())
        };
        // Starts like a byte order mark, but is not UTF-16: half a surrogate pair.
        for bytes in [
            &b"\xff\xfe\x00\xd8\x00"[..],
            b"\xff\xfe\0\0\0",
            b"plain",
            b"",
        ] {
            assert_eq!(of(bytes)?, bytes);
        }
        assert_eq!(of(b"\xff\xfeh\0i\0")?, b"hi");
        assert_eq!(of(b"\xef\xbb\xbfhi")?, b"hi");
        Ok(())
    }

    proptest! {
        #[test]
        fn any_bytes_give_text_or_one_line(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            match read(&bytes) {
                Ok((text, _)) => prop_assert!(text.len() <= 3 * bytes.len()),
                Err(error) => prop_assert!(!error.to_string().contains('\n')),
            }
        }
    }
}
