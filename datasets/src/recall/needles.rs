//! Needles in a text.

use burn::config::Config;

use super::pairs::distinct;
use crate::error::{DatasetError, check, unless_zero};
use crate::sequences::random::{below, keyed_rng};
use crate::sequences::{IGNORED, Sequences};
use crate::text::{Split, Windows};

/// Number of names, of two letters each.
const N_NAMES: usize = 26 * 26;

/// Configuration of [`Needles`].
#[derive(Config, Debug)]
pub struct NeedlesConfig {
    /// Length of a sequence in bytes, including inserted lines. At least 64 for each needle.
    #[config(default = 1024)]
    pub seq_length: usize,
    /// Number of inserted sentences, each of which is asked for once. 1 to 676.
    #[config(default = 8)]
    pub n_needles: usize,
    /// If given, all questions are in about the last `asked_in` bytes, and all sentences before
    /// them: from `32 * n_needles` to `seq_length - 32 * n_needles`.
    pub asked_in: Option<usize>,
    /// Seed of all sequences. Use another one for evaluation.
    #[config(default = 0)]
    pub seed: u64,
}

impl NeedlesConfig {
    /// Length of the shortest sequences in which all needles have room.
    pub fn min_seq_length(&self) -> usize {
        self.n_needles.saturating_mul(64)
    }

    /// Creates the task, in a text.
    ///
    /// # Errors
    /// [`Setting`](crate::SizeError::Setting) for a number that is not allowed, and
    /// [`SplitTooShort`](crate::SizeError::SplitTooShort) for a text no longer than a sequence.
    pub fn init(&self, text: &Split) -> Result<Needles, DatasetError> {
        let (length, n) = (self.seq_length, self.n_needles);
        check(
            (1..=N_NAMES).contains(&n),
            "n_needles",
            n,
            "1 to 676",
            unless_zero(n, "fewer"),
        )?;
        check(
            length >= self.min_seq_length(),
            "seq_length",
            length,
            "at least 64 for each needle",
            "longer sequences or fewer needles",
        )?;
        if let Some(asked_in) = self.asked_in {
            check(
                (32 * n..=length - 32 * n).contains(&asked_in),
                "asked_in",
                asked_in,
                "from 32 * n_needles to seq_length - 32 * n_needles",
                "32 * n_needles",
            )?;
        }
        Windows::new(text, length)?;
        Ok(Needles {
            config: self.clone(),
            text: text.clone(),
        })
    }
}

/// Windows of a text with inserted sentences unrelated to it, and later questions for them.
///
/// Inserted sentences are `[the key x to ab:]`, and questions `[what key to ab:x]`, each
/// on a line of its own: a letter for a name of two. Only the letters at the end of questions
/// count. The letter precedes the name, so that at the colon a question and its sentence have the
/// preceding name in common, which attention with shared queries and keys can find.
///
/// Sequence `i` of a seed is always the same.
///
/// # Example
///
/// ```
/// use reformer_datasets::{ByteCorpus, Sequences};
/// use reformer_datasets::recall::NeedlesConfig;
///
/// # fn main() -> Result<(), reformer_datasets::DatasetError> {
/// let text = ByteCorpus::sample().split().train;
/// let task = NeedlesConfig::new().with_seq_length(256).with_n_needles(1).init(&text)?;
/// let (mut tokens, mut targets) = ([0; 256], [0; 256]);
/// task.read(5, &mut tokens, &mut targets);
/// let bytes: Vec<u8> = tokens.iter().map(|&token| token as u8).collect();
/// let asked = targets.iter().position(|&target| target >= 0).unwrap();
/// let name = &bytes[asked - 2..asked];
/// let planted = [b" to ", name, b":]\n"].concat();
/// let found = bytes.windows(planted.len()).position(|window| window == planted).unwrap();
/// assert!(found < asked && i32::from(bytes[found - 1]) == targets[asked]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Needles {
    config: NeedlesConfig,
    text: Split,
}

/// A line that is inserted into the text.
struct Inserted {
    /// Bytes of the text before it.
    offset: usize,
    is_question: bool,
    name: usize,
    letter: u8,
}

impl Inserted {
    fn line(&self) -> String {
        let Self { name, .. } = self;
        let [first, second] = [name / 26, name % 26].map(|letter| (b'a' + letter as u8) as char);
        let letter = self.letter as char;
        match self.is_question {
            false => format!("\n[the key {letter} to {first}{second}:]\n"),
            true => format!("\n[what key to {first}{second}:{letter}]\n"),
        }
    }
}

/// Bytes of a sentence and of a question.
const PLANTED: usize = 20;
const ASKED: usize = 20;

impl Needles {
    /// Positions of inserted lines in a text of this length, in order.
    fn inserted(&self, n_text: usize, mut below: impl FnMut(usize) -> usize) -> Vec<Inserted> {
        let n = self.config.n_needles;
        let names = distinct(n, N_NAMES, &mut below);
        // Bytes of text before the first possible question.
        let first = self
            .config
            .asked_in
            .map(|asked_in| n_text - (asked_in - n * ASKED));
        let mut lines = Vec::with_capacity(2 * n);
        for name in names {
            let letter = b'a' + below(26) as u8;
            let offsets = match first {
                None => {
                    let offsets = [below(n_text + 1), below(n_text + 1)];
                    [offsets[0].min(offsets[1]), offsets[0].max(offsets[1])]
                }
                Some(first) => [below(first + 1), first + below(n_text - first + 1)],
            };
            for (offset, is_question) in offsets.into_iter().zip([false, true]) {
                lines.push(Inserted {
                    offset,
                    is_question,
                    name,
                    letter,
                });
            }
        }
        // At the same position, the sentence precedes the question.
        lines.sort_by_key(|line| (line.offset, line.is_question));
        lines
    }
}

impl Sequences for Needles {
    fn seq_length(&self) -> usize {
        self.config.seq_length
    }

    /// The number of byte values.
    fn vocab_size(&self) -> usize {
        256
    }

    fn n_sequences(&self) -> Option<usize> {
        None
    }

    fn read(&self, number: u64, tokens: &mut [i32], targets: &mut [i32]) {
        let NeedlesConfig {
            seq_length,
            n_needles,
            seed,
            ..
        } = self.config;
        let mut rng = keyed_rng(b"needles in texts", seed, number);
        let n_text = seq_length - n_needles * (PLANTED + ASKED);
        let start = below(&mut rng, self.text.len() - n_text + 1);
        let text = &self.text.as_bytes()[start..][..n_text];
        let mut bytes = Vec::with_capacity(seq_length);
        let mut read = 0;
        targets.fill(IGNORED);
        for line in self.inserted(n_text, |bound| below(&mut rng, bound)) {
            bytes.extend_from_slice(&text[read..line.offset]);
            read = line.offset;
            bytes.extend_from_slice(line.line().as_bytes());
            if line.is_question {
                // After the letter: `]` and the end of the line.
                targets[bytes.len() - 4] = i32::from(line.letter);
            }
        }
        bytes.extend_from_slice(&text[read..]);
        for (token, byte) in tokens.iter_mut().zip(bytes) {
            *token = i32::from(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::ByteCorpus;

    fn text() -> Split {
        ByteCorpus::sample().split().train
    }

    fn read(config: NeedlesConfig, number: u64) -> (Vec<u8>, Vec<i32>) {
        let task = config.init(&text()).unwrap();
        let mut tokens = vec![0; task.seq_length()];
        let mut targets = vec![0; task.seq_length()];
        task.read(number, &mut tokens, &mut targets);
        let bytes = tokens.iter().map(|&token| u8::try_from(token).unwrap());
        (bytes.collect(), targets)
    }

    #[test]
    fn every_needle_is_asked_for_once_and_after_it_was_planted() {
        for (length, asked_in) in [(512, None), (4096, Some(512))] {
            for number in [0, 1, u64::MAX] {
                let config = NeedlesConfig::new()
                    .with_seq_length(length)
                    .with_asked_in(asked_in);
                let (bytes, targets) = read(config, number);
                let asked: Vec<usize> = (0..length).filter(|&i| targets[i] >= 0).collect();
                assert_eq!(asked.len(), 8);
                for i in asked {
                    let question = [b"\n[what key to ", &bytes[i - 2..=i]].concat();
                    assert_eq!(bytes[i + 1 - question.len()..=i], question);
                    assert_eq!(bytes[i + 2..i + 4], *b"]\n");
                    let letter = targets[i] as u8;
                    assert!(letter.is_ascii_lowercase() && bytes[i + 1] == letter);
                    let name = [b" to ", &bytes[i - 2..=i], b"]\n"].concat();
                    let found = bytes.windows(name.len()).position(|window| window == name);
                    let found = found.expect("it is planted");
                    assert_eq!(bytes[found - 11..found - 1], *b"\n[the key ");
                    assert_eq!(bytes[found - 1], letter);
                    assert!(found < i);
                    if let Some(asked_in) = asked_in {
                        // Questions are in the last `asked_in` bytes, sentences before, up to a
                        // line's length.
                        assert!(i >= length - asked_in && found < length - asked_in + PLANTED);
                    }
                }
            }
        }
    }

    #[test]
    fn the_rest_is_the_text() {
        let (bytes, _) = read(NeedlesConfig::new().with_n_needles(1), 3);
        let before = bytes
            .windows(2)
            .position(|window| window == b"\n[")
            .unwrap();
        assert!(before > 0, "choose another number");
        let text = text();
        let around = text.as_bytes().windows(before);
        assert!(around.into_iter().any(|window| *window == bytes[..before]));
    }

    #[test]
    fn a_sequence_follows_from_seed_and_number() {
        let config = |seed| NeedlesConfig::new().with_seed(seed);
        assert_eq!(read(config(3), 17), read(config(3), 17));
        assert_ne!(read(config(3), 17), read(config(3), 18));
        assert_ne!(read(config(3), 17), read(config(4), 17));
    }

    #[test]
    fn settings_that_cannot_be_are_named() {
        let config = NeedlesConfig::new;
        for (config, message) in [
            (
                config().with_n_needles(0),
                "n_needles is 0, and must be 1 to 676: choose 1 or more",
            ),
            (
                config().with_n_needles(677).with_seq_length(1 << 17),
                "n_needles is 677, and must be 1 to 676: choose fewer",
            ),
            (
                config().with_seq_length(config().min_seq_length() - 1),
                "seq_length is 511",
            ),
            (config().with_asked_in(Some(255)), "asked_in is 255"),
            (config().with_asked_in(Some(769)), "asked_in is 769"),
        ] {
            let error = config.init(&text()).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        let long = config().with_seq_length(text().len());
        assert!(matches!(
            long.init(&text()),
            Err(DatasetError::Size(crate::SizeError::SplitTooShort { .. }))
        ));
    }
}
