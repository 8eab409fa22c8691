//! Pairs of papers from the ACL Anthology Network.

use std::path::Path;

use crate::error::DatasetError;
use crate::holdout::SplitName;
use crate::labelled::{ClassifiedBuilder, ClassifiedRows, SEPARATOR};
use crate::long_range::LongRangeTask;
use crate::report::{ReadReport, shown};
use crate::storage::unpacked;

/// What the files contain.
const FORMAT: &str = "a table of AAN with a label, two ids and two texts between tabs";

/// Reads one of the benchmark's files.
pub(super) fn open(
    folder: &Path,
    part: SplitName,
    max_length: usize,
) -> Result<ClassifiedRows, DatasetError> {
    let path = folder.join(match part {
        SplitName::Train => "new_aan_pairs.train.tsv",
        SplitName::Valid => "new_aan_pairs.eval.tsv",
        SplitName::Test => "new_aan_pairs.test.tsv",
    });
    let mut report = ReadReport::at(&path);
    let bytes = unpacked(&path)?;
    report.files = 1;
    let mut builder = ClassifiedBuilder::new(LongRangeTask::Retrieval.vocab_size(), max_length);
    for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let (documents, class) = record(line).map_err(|found| {
            DatasetError::malformed(&path, FORMAT, format!("line {}: {found}", number + 1))
        })?;
        builder.push(tokens(documents, max_length), class);
    }
    Ok(builder.build(LongRangeTask::Retrieval.classes(), report))
}

/// The texts of a line, and the number of its class.
fn record(line: &[u8]) -> Result<([&[u8]; 2], usize), String> {
    let fields: Vec<&[u8]> = line.splitn(6, |&byte| byte == b'\t').collect();
    let &[label, _, _, first, second] = fields.as_slice() else {
        let n = fields.len();
        let found = if n > 5 { "more than 5" } else { &n.to_string() };
        return Err(format!("it has {found} fields, and must have 5"));
    };
    // Labels are read as numbers, since some copies have them as `1.0`.
    let number = str::from_utf8(label)
        .ok()
        .and_then(|label| label.trim().parse().ok());
    match number {
        Some(0.0) => Ok(([first, second], 0)),
        Some(1.0) => Ok(([first, second], 1)),
        _ => {
            let label = shown(&String::from_utf8_lossy(&label[..label.len().min(64)]));
            Err(format!("its label is `{label}`, and must be 0 or 1"))
        }
    }
}

/// The tokens of two documents, each cut so that both fit into a row of `max_length` tokens.
pub(super) fn tokens(
    documents: [&[u8]; 2],
    max_length: usize,
) -> impl Iterator<Item = u16> + use<'_> {
    let most = max_length.saturating_sub(2) / 2;
    let [first, second] = documents.map(|bytes| &bytes[..bytes.len().min(most)]);
    let first = first.iter().copied().map(u16::from);
    let second = second.iter().copied().map(u16::from);
    first.chain([SEPARATOR]).chain(second)
}
