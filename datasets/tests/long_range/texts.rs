//! Reviews, and pairs of papers.

use std::fs;

use reformer_datasets::SplitName::{Test, Train, Valid};
use reformer_datasets::labelled::{BEGIN, SEPARATOR};
use reformer_datasets::long_range::LongRangeTask;

use crate::{Outcome, message, text, write};

#[test]
fn reviews_have_a_part_for_validation() -> Outcome {
    let folder = tempfile::tempdir()?;
    for part in ["train", "test"] {
        for (class, n) in [("pos", 20), ("neg", 20)] {
            for i in 0..n {
                let file = format!("{part}/{class}/{i}.txt");
                write(
                    folder.path().join(file),
                    format!("{part} {class} {i}").as_bytes(),
                );
            }
        }
    }
    write(folder.path().join("train/unsup/0.txt"), "no class");
    let open = |part| LongRangeTask::Text.open(folder.path(), part, 4_096);
    let [train, valid, test] = [open(Train)?, open(Valid)?, open(Test)?];
    assert_eq!([train.len(), valid.len(), test.len()], [36, 4, 40]);
    assert_eq!(test.classes(), ["neg", "pos"]);
    assert_eq!((text(&test, 0), test.class(0)), ("test neg 0".into(), 0));
    let all: Vec<String> = (0..36).map(|row| text(&train, row)).collect();
    assert!((0..4).all(|row| !all.contains(&text(&valid, row))));
    fs::remove_dir_all(folder.path().join("test"))?;
    assert!(message(open(Test)).contains("test"));
    Ok(())
}

#[test]
fn two_papers_are_one_row() -> Outcome {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let mut train = b"1\tA-1\tB-2\tfirst \"text\ts\xffcond\n".to_vec();
    train.extend(b"0.0\tA-1\tC-3\t\tlonger than that\r\n\n");
    write(at("new_aan_pairs.train.tsv"), &train);
    write(at("new_aan_pairs.eval.tsv"), "1.0\ta\tb\tx\ty");
    let rows = LongRangeTask::Retrieval.open(folder.path(), Train, 8_002)?;
    assert_eq!((rows.len(), rows.class(0), rows.class(1)), (2, 1, 0));
    let begin = [BEGIN];
    let bytes = |bytes: &[u8]| bytes.iter().copied().map(u16::from).collect::<Vec<_>>();
    let expected = [
        &begin[..],
        &bytes(b"first \"text"),
        &[SEPARATOR],
        &bytes(b"s\xffcond"),
    ];
    assert_eq!(rows.rows().tokens(0), expected.concat());
    assert_eq!(rows.rows().vocab_size(), 258);
    // Each document has half of the row.
    let cut = LongRangeTask::Retrieval.open(folder.path(), Train, 9)?;
    let expected = [&begin[..], &bytes(b"fir"), &[SEPARATOR], &bytes(b"s\xffc")];
    assert_eq!(cut.rows().tokens(0), expected.concat());
    let valid = LongRangeTask::Retrieval.open(folder.path(), Valid, 100)?;
    assert_eq!(valid.class(0), 1);
    for (line, found) in [
        ("1\ta\tb\tc\n", "line 1: it has 4 fields"),
        ("1\ta\tb\tc\td\te\n", "line 1: it has more than 5 fields"),
        ("0\ta\tb\tc\td\n2\ta\tb\tc\td\n", "line 2: its label is `2`"),
        ("NaN\ta\tb\tc\td\n", "its label is `NaN`"),
        ("label\tid1\tid2\ttext1\ttext2\n", "its label is `label`"),
        ("\n\n", "no record for this part"),
    ] {
        write(at("new_aan_pairs.test.tsv"), line);
        let error = message(LongRangeTask::Retrieval.open(folder.path(), Test, 100));
        assert!(error.contains(found), "{error}");
    }
    Ok(())
}
