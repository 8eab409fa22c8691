//! Output of UTF-8 text as its bytes arrive.

use std::io::{self, Write};

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
