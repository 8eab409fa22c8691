//! The tasks of the Long Range Arena: rows of every format, what damaged files are answered with,
//! and generated ListOps.

mod images;
mod lists;
mod texts;

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use reformer_datasets::labelled::{BEGIN, ClassifiedRows, SEPARATOR};
use reformer_datasets::long_range::LongRangeTask;
use reformer_datasets::{DatasetError, SplitName};

pub(crate) type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The tokens of a row as text, without the first one.
pub(crate) fn text(rows: &ClassifiedRows, row: usize) -> String {
    let (begin, rest) = rows.rows().tokens(row).split_first().expect("a token");
    assert_eq!(*begin, BEGIN);
    let character = |&token: &u16| char::from_u32(token.into()).expect("a character");
    rest.iter().map(character).collect()
}

/// The message of an error, which is one line.
pub(crate) fn message(result: Result<ClassifiedRows, DatasetError>) -> String {
    let message = result.expect_err("it cannot be read").to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

pub(crate) fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    let folder = path.as_ref().parent().expect("in a folder");
    fs::create_dir_all(folder).expect("a folder");
    fs::write(path, bytes).expect("a file");
}

#[test]
fn a_single_input_is_encoded_like_a_row() {
    let row = |task: LongRangeTask, text: &str| task.encode(text, 7);
    let tokens = |text: &str| {
        let bytes = text.bytes().map(u16::from);
        std::iter::once(BEGIN).chain(bytes).collect::<Vec<_>>()
    };
    use LongRangeTask::{Image, ListOps, Retrieval, Text};
    assert_eq!(row(ListOps, "[MAX 4 [MIN 7 2]]"), Ok(tokens("X4N72]")));
    assert_eq!(row(Text, "a review"), Ok(tokens("a revi")));
    assert_eq!(
        row(Retrieval, "one\ttwo"),
        Ok(vec![BEGIN, 111, 110, SEPARATOR, 116, 119])
    );
    for (task, text, found) in [
        (ListOps, "[MAX 4", "not closed"),
        (ListOps, "a list", "neither a digit nor an operator"),
        (Retrieval, "one", "no tab"),
        (Image, "an image", "not text"),
    ] {
        assert!(row(task, text).unwrap_err().contains(found));
    }
}

proptest! {
    #[test]
    fn no_file_makes_a_task_panic(
        list in r"(Source\tTarget\n)?([\[\]MAXIN 0-9\t\n()]{0,40})",
        pairs in r"([01]\t[a\t\n]{0,9}){0,4}",
        image in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write(at("basic_train.tsv"), &list);
        write(at("new_aan_pairs.train.tsv"), &pairs);
        write(at("data_batch_1.bin"), &image);
        write(at("metadata/0.npy"), "imgs/0 0.png 0 0\nimgs/0 1.png 0 1\nimgs/0 2.png 0 1\n");
        for i in 0..3 {
            write(at(&format!("imgs/0/{i}.png")), &image);
        }
        for task in LongRangeTask::ALL {
            match task.open(folder.path(), SplitName::Train, 16) {
                Ok(rows) => prop_assert!(!rows.is_empty()),
                Err(error) => prop_assert!(!error.to_string().contains('\n')),
            }
        }
    }
}
