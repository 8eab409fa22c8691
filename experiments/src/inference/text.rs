//! Texts to train on, and byte-wise output of UTF-8 text.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use reformer_datasets::tokens::{Column, ColumnFormat, ColumnKind, IdWidth};
use reformer_train::{DataConfig, IdFiles, IdsConfig};

use crate::cli::absolute;

/// The column of most data sets of texts.
const COLUMN: &str = "text";

/// Flags that name a text to train on.
#[derive(Debug, Args)]
pub struct TextArguments {
    /// Text (or any file): 90 % of it for training, 5 % for validation [default: a sample of Shakespeare]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["resume", "join"])]
    data: Option<PathBuf>,
    /// Format of --data [default: jsonl or parquet for a file of such a name, otherwise bytes]
    #[arg(long, value_enum, requires = "data")]
    format: Option<Format>,
    /// Column of JSON Lines or Parquet: texts, or lists of ids [default: text]
    #[arg(long, value_name = "NAME", requires = "data")]
    column: Option<String>,
}

/// Formats of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A file, or a folder of files, byte by byte
    Bytes,
    /// The official file of enwik8, raw or packed
    Enwik8,
    /// The official file of text8, raw or packed
    Text8,
    /// JSON Lines, raw or packed: a file or a folder of them
    Jsonl,
    /// Parquet, as Hugging Face stores data sets: a file or a folder of them
    Parquet,
    /// Ids of two bytes each, as nanoGPT writes them; `val.bin` next to `train.bin` is to validate on
    Ids16,
    /// Ids of four bytes each
    Ids32,
}

impl Format {
    fn column(self) -> Option<ColumnFormat> {
        match self {
            Self::Jsonl => Some(ColumnFormat::JsonLines),
            Self::Parquet => Some(ColumnFormat::Parquet),
            _ => None,
        }
    }

    /// The format that a path suggests.
    fn of(path: &Path) -> Self {
        match ColumnFormat::of(path).filter(|_| !path.is_dir()) {
            Some(ColumnFormat::JsonLines) => Self::Jsonl,
            Some(ColumnFormat::Parquet) => Self::Parquet,
            None => Self::Bytes,
        }
    }
}

impl TextArguments {
    /// The text named by the flags, or else that of the preset.
    ///
    /// # Errors
    /// A preset for other data, a path that cannot be used, or a column that is not there.
    pub fn config(&self, preset: DataConfig) -> Result<DataConfig> {
        if !preset.is_language() {
            bail!("this preset is not for texts: use tiny, small, base or enwik8-64k");
        }
        let Some(path) = &self.data else {
            return Ok(preset);
        };
        let path = absolute(path)?;
        let format = self.format.unwrap_or_else(|| Format::of(&path));
        if let Some(format) = format.column() {
            return column(path, format, self.column.as_deref().unwrap_or(COLUMN));
        }
        if let Some(column) = &self.column {
            bail!(
                "`--column {column}` is for JSON Lines and Parquet: say which by --format, or leave it out"
            );
        }
        Ok(match format {
            Format::Enwik8 => DataConfig::Enwik8(path),
            Format::Text8 => DataConfig::Text8(path),
            Format::Ids16 => ids(path, IdWidth::U16),
            Format::Ids32 => ids(path, IdWidth::U32),
            _ if path.is_dir() => DataConfig::Folder(path),
            _ => DataConfig::File(path),
        })
    }
}

/// A column of texts, or of ids.
fn column(path: PathBuf, format: ColumnFormat, name: &str) -> Result<DataConfig> {
    // What comes through a pipe is looked at only once.
    let can_be_read_twice = path.is_file() || path.is_dir() || !path.exists();
    let column = Column::new(path, format, name.to_owned());
    Ok(
        match can_be_read_twice && column.kind()? == ColumnKind::Ids {
            true => DataConfig::Ids(IdsConfig::new(IdFiles::Column(column))),
            false => DataConfig::Column(column),
        },
    )
}

/// A file of ids, or `train.bin` in a folder.
fn ids(path: PathBuf, width: IdWidth) -> DataConfig {
    let path = match path.is_dir() {
        true => path.join("train.bin"),
        false => path,
    };
    DataConfig::Ids(IdsConfig::new(IdFiles::at(path, width)))
}

/// Writes UTF-8 text as its bytes arrive. A character is written once it is complete; bytes that are not
/// UTF-8 become U+FFFD.
#[derive(Debug)]
pub struct Utf8Writer<W> {
    output: W,
    /// The bytes so far of an incomplete character.
    pending: Vec<u8>,
}

impl<W: Write> Utf8Writer<W> {
    /// Writes to `output`, and flushes it after each character.
    pub fn new(output: W) -> Self {
        Self {
            output,
            pending: vec![],
        }
    }

    /// Takes the next byte.
    ///
    /// # Errors
    /// Errors of the output.
    pub fn push(&mut self, byte: u8) -> io::Result<()> {
        self.pending.push(byte);
        self.drain(false)
    }

    /// Ends the text; an incomplete character becomes U+FFFD.
    ///
    /// # Errors
    /// Errors of the output.
    pub fn finish(mut self) -> io::Result<()> {
        self.drain(true)
    }

    fn drain(&mut self, is_end: bool) -> io::Result<()> {
        loop {
            let (valid, broken) = match str::from_utf8(&self.pending) {
                Ok(text) => (text.len(), 0),
                Err(error) => {
                    let rest = self.pending.len() - error.valid_up_to();
                    let broken = error.error_len().unwrap_or(if is_end { rest } else { 0 });
                    (error.valid_up_to(), broken)
                }
            };
            self.output.write_all(&self.pending[..valid])?;
            if broken > 0 {
                self.output.write_all("\u{FFFD}".as_bytes())?;
            }
            self.pending.drain(..valid + broken);
            if broken == 0 {
                return self.output.flush();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: &[u8]) -> String {
        let mut output = Vec::new();
        let mut writer = Utf8Writer::new(&mut output);
        for byte in bytes {
            writer.push(*byte).unwrap();
        }
        writer.finish().unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn whole_text_is_unchanged() {
        let text = "O Romeo – 日本語 🎭\n";
        assert_eq!(written(text.as_bytes()), text);
    }

    #[test]
    fn broken_text_is_what_the_standard_library_makes_of_it() {
        for bytes in [
            &b"a\xffb"[..],
            b"\xe2\x80",
            b"\xe2\x80x\xf0\x9f\x8e",
            b"\x80\x80\xc3\xa9\xc3",
            b"\xf0\x28\x8c\xbc",
        ] {
            assert_eq!(written(bytes), String::from_utf8_lossy(bytes), "{bytes:?}");
        }
    }

    #[test]
    fn character_appears_with_its_last_byte() {
        let mut output = Vec::new();
        let mut writer = Utf8Writer::new(&mut output);
        writer.push(0xc3).unwrap();
        assert!(writer.output.is_empty());
        writer.push(0xa9).unwrap();
        assert_eq!(writer.output.as_slice(), "é".as_bytes());
    }
}
