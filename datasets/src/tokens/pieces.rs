//! Cutting a text into pieces that a tokenizer encodes one by one.

use crate::error::DatasetError;

/// Bytes of a piece, if there is a good position for a cut in them.
const PIECE: usize = 1 << 16;
/// Maximum bytes of a piece.
const MAX_PIECE: usize = 1 << 20;

/// The byte that ends a text among several.
pub(super) const END: u8 = 0;

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub(super) text: &'a str,
    /// Whether [`END`] follows.
    pub(super) ends: bool,
}

/// The pieces of a text, in order.
///
/// A cut is before a single space after a letter or a digit. Tokenizers begin a new word there, so
/// the tokens are those of the whole text. Only where [`MAX_PIECE`] bytes have no such position, a
/// cut is anywhere between two characters.
#[derive(Debug)]
pub(super) struct Pieces<'a> {
    name: &'a str,
    rest: &'a [u8],
    /// Where the rest starts.
    position: usize,
    /// Whether the space at a cut is left out, since the tokenizer adds one before each piece.
    drops_space: bool,
    limits: [usize; 2],
}

impl<'a> Pieces<'a> {
    /// The pieces of a text that starts at a position of a corpus.
    pub(super) fn new(name: &'a str, text: &'a [u8], position: usize, drops_space: bool) -> Self {
        Self {
            name,
            rest: text,
            position,
            drops_space,
            limits: [PIECE, MAX_PIECE],
        }
    }

    /// Length of the next piece.
    fn length(&self) -> usize {
        let [usual, most] = self.limits;
        let n = self.rest.len();
        if n <= usual {
            return n;
        }
        let is_good = |&position: &usize| is_between_words(self.rest, position);
        let good = (1..usual).rev().find(is_good);
        let good = good.or_else(|| (usual..most.min(n)).find(is_good));
        good.unwrap_or_else(|| match n <= most {
            true => n,
            false => start_of_character(self.rest, most),
        })
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Result<Piece<'a>, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let length = self.length();
        let end = self.rest[..length].iter().position(|&byte| byte == END);
        let (piece, rest) = self.rest.split_at(end.unwrap_or(length));
        let text = match str::from_utf8(piece) {
            Ok(text) => text,
            Err(error) => {
                let position = self.position + error.valid_up_to();
                self.rest = &[];
                return Some(Err(DatasetError::NotUtf8 {
                    name: self.name.to_owned(),
                    position,
                }));
            }
        };
        let left_out = match end {
            Some(_) => 1,
            None => usize::from(self.drops_space && rest.first() == Some(&b' ')),
        };
        self.position += piece.len() + left_out;
        self.rest = &rest[left_out..];
        let ends = end.is_some();
        Some(Ok(Piece { text, ends }))
    }
}

/// Whether a word ends at a position, and a space begins.
fn is_between_words(text: &[u8], position: usize) -> bool {
    text[position] == b' ' && {
        let start = last_start(&text[..position]);
        let last = str::from_utf8(&text[start..position]).ok();
        let last = last.and_then(|text| text.chars().next_back());
        last.is_some_and(char::is_alphanumeric)
    }
}

/// Where the last character of a text that is not empty starts.
fn last_start(text: &[u8]) -> usize {
    let start = text.len() - 1;
    start_of_character(text, start)
}

/// The position, or the start of the character that it is in.
fn start_of_character(text: &[u8], position: usize) -> usize {
    let most = position.saturating_sub(3);
    let mut positions = (most..=position).rev();
    let start = positions.find(|&position| is_start(text[position]));
    start.unwrap_or(position)
}

/// The position, or the start of the next character if it is inside one.
pub(super) fn next_character(text: &[u8], position: usize) -> usize {
    let following = text[position..].iter().take(3);
    position + following.take_while(|&&byte| !is_start(byte)).count()
}

/// Whether a byte of UTF-8 begins a character.
fn is_start(byte: u8) -> bool {
    byte & 0xc0 != 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(
        text: &[u8],
        limits: [usize; 2],
        drops_space: bool,
    ) -> Result<Vec<Piece<'_>>, DatasetError> {
        let pieces = Pieces::new("text", text, 0, drops_space);
        Pieces { limits, ..pieces }.collect()
    }

    fn texts<'a>(pieces: &[Piece<'a>]) -> Vec<&'a str> {
        pieces.iter().map(|piece| piece.text).collect()
    }

    #[test]
    fn cuts_are_before_spaces_after_words() -> Result<(), DatasetError> {
        let text = "one two, three  four\nfünf";
        let found = pieces(text.as_bytes(), [9, 30], false)?;
        assert_eq!(texts(&found), ["one", " two, three", "  four\nfünf"]);
        Ok(())
    }

    #[test]
    fn long_words_are_cut_between_characters_only() -> Result<(), DatasetError> {
        let text = "äöüäöüäöü";
        let found = pieces(text.as_bytes(), [2, 5], false)?;
        assert_eq!(texts(&found), ["äö", "üä", "öü", "äö", "ü"]);
        Ok(())
    }

    #[test]
    fn zero_bytes_end_texts() -> Result<(), DatasetError> {
        let found = pieces(b"one\0\0two", [100, 200], false)?;
        let read: Vec<_> = found.iter().map(|piece| (piece.text, piece.ends)).collect();
        assert_eq!(read, [("one", true), ("", true), ("two", false)]);
        Ok(())
    }

    #[test]
    fn bytes_that_are_no_text_are_named_with_their_position() {
        let error = pieces(b"one two\xff", [4, 9], false).expect_err("0xff");
        assert_eq!(
            error.to_string(),
            "`text` has bytes at position 7 that are not UTF-8, and a tokenizer reads text: convert it to UTF-8, or use \
             its bytes as tokens"
        );
        assert!(pieces("é".as_bytes()[..1].as_ref(), [4, 9], false).is_err());
    }

    #[test]
    fn space_at_a_cut_can_be_left_out() -> Result<(), DatasetError> {
        assert_eq!(texts(&pieces(b"one two", [4, 9], true)?), ["one", "two"]);
        assert_eq!(texts(&pieces(b"one two", [4, 9], false)?), ["one", " two"]);
        Ok(())
    }
}
