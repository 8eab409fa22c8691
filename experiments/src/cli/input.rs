//! Text that programs read: line by line, from a file, a pipe or a terminal.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Cursor, IsTerminal, stdin};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use reformer_datasets::read_text_file;

/// The byte order marks of UTF-16.
const UTF_16: [[u8; 2]; 2] = [[0xff, 0xfe], [0xfe, 0xff]];
/// Leading bytes of text that is not plain UTF-8: UTF-16, gzip, xz and zip.
const NOT_PLAIN: [&[u8]; 5] = [
    &UTF_16[0],
    &UTF_16[1],
    b"\x1f\x8b",
    b"\xfd7zXZ\0",
    b"PK\x03\x04",
];

/// Lines of UTF-8 without their ends and without a byte order mark.
pub(crate) struct Lines {
    /// Name of the source, for errors.
    name: String,
    reader: Box<dyn BufRead>,
    n_read: usize,
}

impl Lines {
    /// The lines of a file, or those of the standard input.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self::new("the standard input", stdin().lock()));
        };
        let name = format!("`{}`", path.display());
        let file = File::open(path).with_context(|| format!("{name} cannot be read"))?;
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let mut reader = BufReader::new(file);
        // Compressed or UTF-16 files have to be decoded as a whole before lines can be found.
        let start = reader.fill_buf();
        let start = start.with_context(|| format!("{name} cannot be read"))?;
        if is_file && NOT_PLAIN.iter().any(|mark| start.starts_with(mark)) {
            return Ok(Self::new(name, Cursor::new(read_text_file(path)?)));
        }
        Ok(Self::new(name, reader))
    }

    /// One line for each text; line breaks inside a text become spaces.
    pub(crate) fn of_texts(name: &str, texts: &[String]) -> Self {
        let lines = texts
            .iter()
            .map(|text| text.replace(['\n', '\r'], " ") + "\n");
        Self::new(name, Cursor::new(lines.collect::<String>()))
    }

    fn new(name: impl Into<String>, reader: impl BufRead + 'static) -> Self {
        Self {
            name: name.into(),
            reader: Box::new(reader),
            n_read: 0,
        }
    }

    /// Number and source of the last line, for errors.
    pub(crate) fn place(&self) -> String {
        format!("line {} of {}", self.n_read, self.name)
    }

    /// All that is left, with its line ends.
    pub(crate) fn rest(mut self) -> Result<String> {
        let mut text = String::new();
        for line in &mut self {
            text += &line?;
            text.push('\n');
        }
        Ok(text)
    }
}

impl Iterator for Lines {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        let mut line = Vec::new();
        match self.reader.read_until(b'\n', &mut line) {
            Ok(0) => return None,
            Ok(_) => self.n_read += 1,
            Err(error) => {
                let cannot = format!("{} cannot be read", self.name);
                return Some(Err(error).context(cannot));
            }
        }
        let is_first = self.n_read == 1;
        Some(text_of(line, is_first).with_context(|| self.place()))
    }
}

fn text_of(line: Vec<u8>, is_first: bool) -> Result<String> {
    if is_first && UTF_16.iter().any(|mark| line.starts_with(mark)) {
        bail!("it is UTF-16: convert it to UTF-8");
    }
    let line = String::from_utf8(line).map_err(|_| anyhow!("it is not UTF-8: convert it"))?;
    let text = line.trim_end_matches(['\n', '\r']);
    Ok(match is_first {
        true => without_mark(text),
        false => text,
    }
    .to_owned())
}

/// A text without the byte order mark that some editors and shells put before it.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Lines that are read at a time: one at a terminal, where each line is answered at once.
pub(crate) fn lines_at_once(path: Option<&Path>, many: usize) -> usize {
    match path.is_none() && stdin().is_terminal() {
        true => 1,
        false => many,
    }
}

/// Number of lines in a file; none if it can be read only once, as a pipe can.
pub(crate) fn count_lines(path: &Path) -> Result<Option<usize>> {
    let count = || -> io::Result<Option<usize>> {
        // Not opened: the process writing into a pipe would see its reader leave.
        if !fs::metadata(path)?.is_file() {
            return Ok(None);
        }
        let mut reader = BufReader::new(File::open(path)?);
        let (mut n, mut ends) = (0, true);
        loop {
            let part = reader.fill_buf()?;
            let Some(&last) = part.last() else {
                return Ok(Some(n + usize::from(!ends)));
            };
            n += part.iter().filter(|&&byte| byte == b'\n').count();
            ends = last == b'\n';
            let length = part.len();
            reader.consume(length);
        }
    };
    count().with_context(|| format!("`{}` cannot be read", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &'static [u8]) -> Vec<String> {
        let lines =
            Lines::new("here", bytes).map(|line| line.map_err(|error| format!("{error:#}")));
        lines
            .map(|line| line.unwrap_or_else(|error| error))
            .collect()
    }

    #[test]
    fn ends_and_marks_are_no_text() {
        assert_eq!(
            read(b"\xef\xbb\xbfone\r\n\n\xef\xbb\xbftwo"),
            ["one", "", "\u{feff}two"]
        );
        assert!(read(b"").is_empty());
    }

    #[test]
    fn what_is_no_text_is_named() {
        assert_eq!(
            read(b"a\n\xff\n")[1],
            "line 2 of here: it is not UTF-8: convert it"
        );
        assert!(read(b"\xff\xfea\0\n\0")[0].contains("it is UTF-16"));
    }

    #[test]
    fn files_in_utf16_are_decoded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        let utf16 = "\u{feff}one\r\nzwölf\r\n".encode_utf16();
        let bytes: Vec<u8> = utf16.flat_map(u16::to_le_bytes).collect();
        std::fs::write(&path, bytes).unwrap();
        let lines: Result<Vec<String>> = Lines::open(Some(&path)).unwrap().collect();
        assert_eq!(lines.unwrap(), ["one", "zwölf"]);
    }

    #[test]
    fn lines_are_counted_with_and_without_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        for (text, n) in [("", 0), ("a", 1), ("a\n", 1), ("a\nb\n\n", 3)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(count_lines(&path).unwrap(), Some(n));
            assert_eq!(Lines::open(Some(&path)).unwrap().count(), n);
        }
        let texts = ["two\nlines".to_owned(), String::new()];
        assert_eq!(
            Lines::of_texts("--text", &texts).rest().unwrap(),
            "two lines\n\n"
        );
    }
}
