//! Conversion of character offsets in a text to byte offsets.

use std::ops::Range;
use std::sync::Arc;

/// The byte offset of every such character is stored.
const STRIDE: usize = 64;

/// A text in which characters are found by their number without scanning it from the start.
pub(super) struct Characters {
    text: Arc<str>,
    /// The byte offset of each [`STRIDE`]th character.
    offsets: Vec<usize>,
}

impl Characters {
    pub(super) fn of(text: String) -> Self {
        let strides = text.char_indices().step_by(STRIDE);
        Self {
            offsets: strides.map(|(offset, _)| offset).collect(),
            text: text.into(),
        }
    }

    pub(super) fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// The byte offset of a character; the length of the text if it has fewer characters.
    fn bytes_before(&self, character: usize) -> usize {
        let Some(&offset) = self.offsets.get(character / STRIDE) else {
            return self.text.len();
        };
        let mut after = self.text[offset..].char_indices();
        let found = after.nth(character % STRIDE);
        found.map_or(self.text.len(), |(further, _)| offset + further)
    }

    /// The byte range of an occurrence of `part` at most `max_moved` characters away from `start`,
    /// the nearest one, and its distance in characters. Without `start`, `part` must occur once.
    pub(super) fn find(
        &self,
        part: &str,
        start: Option<usize>,
        max_moved: usize,
    ) -> Option<(Range<usize>, usize)> {
        let of = |offset: usize| offset..offset + part.len();
        let Some(start) = start else {
            let offset = self.text.find(part)?;
            let is_only = self.text.rfind(part) == Some(offset);
            return is_only.then(|| (of(offset), 0));
        };
        let from = start.saturating_sub(max_moved);
        let near = &self.text[self.bytes_before(from)..];
        let first_byte = self.text.len() - near.len();
        let candidates = near
            .char_indices()
            .zip(from..=start.saturating_add(max_moved));
        candidates
            .filter(|&((offset, _), _)| near[offset..].starts_with(part))
            .map(|((offset, _), character)| (of(first_byte + offset), character.abs_diff(start)))
            .min_by_key(|&(_, moved)| moved)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nearest_place_is_found() {
        let text = Characters::of("äb ab äb ab".to_owned());
        let find = |part, start| text.find(part, start, 3);
        assert_eq!(find("ab", Some(3)), Some((4..6, 0)));
        assert_eq!(find("ab", Some(5)), Some((4..6, 2)));
        assert_eq!(find("ab", Some(7)), Some((11..13, 2)));
        assert_eq!(find("äb", Some(40)), None);
        assert_eq!(find("äb", Some(usize::MAX)), None);
        assert_eq!(find("äb", None), None);
        assert_eq!(find("b ä", None), Some((5..9, 0)));
    }

    proptest! {
        #[test]
        fn characters_are_counted(text in "[aé🗼]{0,200}", character in 0_usize..220) {
            let expected = text.char_indices().nth(character).map_or(text.len(), |(offset, _)| offset);
            prop_assert_eq!(Characters::of(text).bytes_before(character), expected);
        }
    }
}
