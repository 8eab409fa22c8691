//! Stops a text at one of several strings.

/// Searches for strings in a text that arrives in pieces. The text ends before the first string
/// that is complete.
///
/// ```
/// use reformer_core::generation::StopStrings;
///
/// let mut stop = StopStrings::new(["END"]);
/// assert_eq!(stop.push(b"The E"), b"The "); // the E may be the beginning of END
/// assert_eq!(stop.push(b"ast"), b"East");
/// assert_eq!(stop.push(b". END of it"), b". ");
/// assert!(stop.is_stopped());
/// ```
#[derive(Debug, Clone)]
pub struct StopStrings {
    strings: Vec<Vec<u8>>,
    /// Held back: possibly the beginning of one of the strings.
    pending: Vec<u8>,
    is_stopped: bool,
}

impl StopStrings {
    /// Searches for these strings. Empty ones are ignored.
    pub fn new(strings: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        let strings = strings.into_iter().map(Into::into);
        Self {
            strings: strings
                .filter(|string: &Vec<u8>| !string.is_empty())
                .collect(),
            pending: Vec::new(),
            is_stopped: false,
        }
    }

    /// Takes the next piece and returns the text that certainly precedes all of the strings.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        if self.is_stopped {
            return Vec::new();
        }
        self.pending.extend_from_slice(piece);
        let found = self.strings.iter().filter_map(|string| {
            let mut places = self.pending.windows(string.len());
            let start = places.position(|place| place == string.as_slice())?;
            Some((start + string.len(), start))
        });
        // The string that is complete first, and the longest one of those.
        if let Some((_, start)) = found.min() {
            self.is_stopped = true;
            let mut text = core::mem::take(&mut self.pending);
            text.truncate(start);
            return text;
        }
        let begins = |at: &usize| {
            let end = &self.pending[*at..];
            self.strings.iter().any(|string| string.starts_with(end))
        };
        let longest = self.strings.iter().map(Vec::len).max().unwrap_or(0);
        let from = (self.pending.len() + 1).saturating_sub(longest.max(1));
        let kept = (from..self.pending.len()).find(begins);
        let rest = self.pending.split_off(kept.unwrap_or(self.pending.len()));
        core::mem::replace(&mut self.pending, rest)
    }

    /// Ends the text and returns the held-back rest.
    pub fn finish(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.pending)
    }

    /// Whether one of the strings was found.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The text before the string that is complete first.
    fn before(text: &[u8], strings: &[&str]) -> Vec<u8> {
        for end in 1..=text.len() {
            let whole = strings
                .iter()
                .filter(|string| text[..end].ends_with(string.as_bytes()));
            if let Some(longest) = whole.map(|string| string.len()).max() {
                return text[..end - longest].to_vec();
            }
        }
        text.to_vec()
    }

    proptest! {
        #[test]
        fn text_ends_before_the_first_string_however_it_arrives(
            text in "[ab]{0,30}", piece in 1usize..5, which in 0usize..4,
        ) {
            let strings: &[&str] = [&["aab"][..], &["ab", "bb"], &["abab", "b"], &[]][which];
            let mut stop = StopStrings::new(strings.iter().copied());
            let mut found = Vec::new();
            for piece in text.as_bytes().chunks(piece) {
                found.extend(stop.push(piece));
            }
            found.extend(stop.finish());
            let expected = before(text.as_bytes(), strings);
            prop_assert_eq!(stop.is_stopped(), expected.len() < text.len());
            prop_assert_eq!(found, expected);
        }
    }
}
