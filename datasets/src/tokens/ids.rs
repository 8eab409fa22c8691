//! Files of ids.

use std::path::Path;

use burn::config::Config;

use crate::error::DatasetError;
use crate::report::ReadReport;
use crate::storage::read_file;
use crate::text::{Corpus, Splits};
use crate::tokens::corpus::{TokenCorpus, Width};
use crate::tokens::tokenizer::MAX_VOCAB_SIZE;

/// How a file stores ids.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum IdWidth {
    /// Two bytes each, the low one first: `numpy.uint16`, as nanoGPT writes them.
    U16,
    /// Four bytes each, the lowest first: `numpy.uint32`.
    U32,
}

/// The ids in a file that has nothing else in it, such as nanoGPT's `train.bin`; the validation
/// split is another such file, or else the ids after the first 90 %. Without a given size, the
/// vocabulary ends with the largest id in the files.
///
/// # Example
///
/// ```
/// use reformer_datasets::Corpus;
/// use reformer_datasets::tokens::{IdWidth, open_ids};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("train.bin");
/// let ids: Vec<u8> = (0..1_000_u16).flat_map(u16::to_le_bytes).collect();
/// std::fs::write(&path, ids)?;
/// let splits = open_ids(&path, None, IdWidth::U16, None)?;
/// assert_eq!((splits.train.len(), splits.valid.len()), (900, 50));
/// assert_eq!(splits.train.corpus().vocab_size(), 1_000);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of [`ByteCorpus::open`](crate::ByteCorpus::open) except [`Empty`](DatasetError::Empty),
/// [`NoTokens`](DatasetError::NoTokens), [`Malformed`](DatasetError::Malformed) for a file that
/// ends inside an id, or [`IdTooLarge`](DatasetError::IdTooLarge) for an id that is not below the
/// size of the vocabulary, or 1,048,576.
pub fn open_ids(
    path: &Path,
    valid: Option<&Path>,
    width: IdWidth,
    vocab_size: Option<usize>,
) -> Result<Splits<TokenCorpus>, DatasetError> {
    let width = match width {
        IdWidth::U16 => Width::Two,
        IdWidth::U32 => Width::Four,
    };
    let mut largest = 0;
    let mut open = |path: &Path| {
        let bytes = read_file(path)?;
        let rest = bytes.len() % width as usize;
        if rest > 0 {
            let found = format!("it has {} bytes", bytes.len());
            let expected = format!("a file of ids of {} bytes each", width as usize);
            return Err(DatasetError::malformed(path, expected, found));
        }
        largest = width.ids(&bytes).fold(largest, u32::max);
        check_id(path, largest.into(), vocab_size)?;
        let mut report = ReadReport::at(path);
        report.files = 1;
        Ok((report, bytes))
    };
    let train = open(path)?;
    let valid = valid.map(open).transpose()?;
    let vocab_size = vocab_size.unwrap_or(largest as usize + 1);
    let corpus = |(report, bytes)| TokenCorpus::of(report, bytes, width, vocab_size);
    splits(corpus(train), valid.map(corpus))
}

/// The splits of ids to train on and perhaps others to validate on.
pub(super) fn splits(
    train: TokenCorpus,
    valid: Option<TokenCorpus>,
) -> Result<Splits<TokenCorpus>, DatasetError> {
    for corpus in [Some(&train), valid.as_ref()].into_iter().flatten() {
        if corpus.n_tokens() == 0 {
            let name = corpus.name().to_owned();
            return Err(DatasetError::NoTokens { name });
        }
    }
    Ok(match valid {
        Some(valid) => Splits::of_two(train, valid),
        None => Splits::of(&train),
    })
}

/// Checks that an id is one of a vocabulary, or of the largest one that there can be.
pub(super) fn check_id(
    path: &Path,
    id: i64,
    vocab_size: Option<usize>,
) -> Result<u32, DatasetError> {
    let limit = vocab_size.unwrap_or(MAX_VOCAB_SIZE);
    match u32::try_from(id) {
        Ok(id) if (id as usize) < limit => Ok(id),
        _ => Err(DatasetError::IdTooLarge {
            name: path.display().to_string(),
            id,
            limit,
        }),
    }
}
