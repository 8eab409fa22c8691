//! Files of ids and columns of texts, as they are published, and as they should not be.

#![allow(clippy::unwrap_used)]

#[cfg(feature = "parquet")]
mod parquet_files;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use reformer_datasets::tokens::{
    Column, ColumnFormat, ColumnKind, IdWidth, Tokenizer, encode, open_ids, train_tokenizer,
};
use reformer_datasets::{ByteCorpus, Corpus, DatasetError, Sequences, Splits, Windows};
use tempfile::TempDir;

/// A folder with these files.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn column(path: impl Into<PathBuf>, name: &str) -> Column {
    Column::new(path.into(), ColumnFormat::JsonLines, name.to_owned())
}

fn error<T>(result: Result<T, DatasetError>) -> String {
    result.err().expect("an error").to_string()
}

fn text(splits: &Splits) -> &str {
    str::from_utf8(splits.train.corpus().as_bytes()).unwrap()
}

fn bytes16(ids: impl IntoIterator<Item = u16>) -> Vec<u8> {
    ids.into_iter().flat_map(u16::to_le_bytes).collect()
}

#[test]
fn ids_of_two_files_are_two_splits() {
    let folder = folder(&[
        ("train.bin", &bytes16([1, 2, 3, 4, 5])),
        ("val.bin", &bytes16([9, 8, 7])),
    ]);
    let [train, valid] = ["train.bin", "val.bin"].map(|name| folder.path().join(name));
    let splits = open_ids(&train, Some(&valid), IdWidth::U16, None).unwrap();
    assert_eq!(
        (splits.train.len(), splits.valid.len(), splits.test.len()),
        (5, 3, 0)
    );
    assert_eq!(splits.train.corpus().vocab_size(), 10);
    let windows = Windows::new(&splits.valid, 2).unwrap();
    let (mut tokens, mut targets) = ([0; 2], [0; 2]);
    windows.read(0, &mut tokens, &mut targets);
    assert_eq!((tokens, targets), ([9, 8], [8, 7]));
    assert_eq!(splits.valid.bytes_per_token(), None);
}

#[test]
fn files_that_are_no_ids_are_refused() {
    let folder = folder(&[
        ("odd", b"abc"),
        ("empty", b""),
        ("large", &(1_u32 << 20).to_le_bytes()),
    ]);
    let open = |name: &str, width, vocab_size| {
        open_ids(&folder.path().join(name), None, width, vocab_size)
    };
    let odd = error(open("odd", IdWidth::U16, None));
    assert!(
        odd.contains("is not a file of ids of 2 bytes each (it has 3 bytes)"),
        "{odd}"
    );
    let empty = error(open("empty", IdWidth::U32, None));
    assert!(empty.contains("has 0 tokens"), "{empty}");
    let large = error(open("large", IdWidth::U32, None));
    assert!(
        large.contains("has the id 1048576, and ids must be below 1048576"),
        "{large}"
    );
    let small = error(open("large", IdWidth::U16, Some(16)));
    assert!(
        small.contains("has the id 16, and ids must be below 16"),
        "{small}"
    );
}

#[test]
fn texts_of_a_column_are_separated_and_the_report_counts_what_is_left_out() {
    let lines = "{\"text\": \"one\", \"n\": {\"text\": 3}}\n\n{\"text\": null}\n{\"n\": [1]}\r\n{\"text\": \"\\u00fc\\u0000x\"}";
    let folder = folder(&[("a.jsonl", lines.as_bytes())]);
    let splits = column(folder.path().join("a.jsonl"), "text")
        .open_texts()
        .unwrap();
    assert_eq!(text(&splits), "one\0üx\0");
    let report = splits.train.corpus().report();
    assert_eq!((report.count("texts"), report.files), (Some(2), 1));
    assert_eq!(
        (report.skipped[0].count, &*report.skipped[0].example),
        (2, "line 3")
    );
}

#[test]
fn packed_shards_of_a_folder_are_read_in_order_and_split_by_name() {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(b"{\"t\": \"two\"}\n").unwrap();
    let folder = folder(&[
        ("train-1.jsonl.gz", &packed.finish().unwrap()),
        ("train-0.jsonl", b"{\"t\": \"one\"}"),
        ("validation-0.jsonl", b"{\"t\": \"three\"}"),
        ("test.jsonl", b"{\"t\": \"four\"}"),
        ("README.md", b"# Data"),
    ]);
    let splits = column(folder.path(), "t").open_texts().unwrap();
    assert_eq!(splits.train.as_bytes(), b"one\0two\0");
    assert_eq!(splits.valid.as_bytes(), b"three\0");
    let skipped = splits.train.corpus().report().skipped;
    assert_eq!(
        skipped
            .iter()
            .map(|skipped| skipped.count)
            .collect::<Vec<_>>(),
        [1, 1]
    );
    fs::remove_file(folder.path().join("validation-0.jsonl")).unwrap();
    let splits = column(folder.path(), "t").open_texts().unwrap();
    assert_eq!(text(&splits), "one\0two\0");
}

#[test]
fn lists_of_ids_follow_each_other() {
    let folder = folder(&[(
        "a.jsonl",
        b"{\"ids\": [5, 6]}\n{\"ids\": []}\n{\"ids\": [300]}\n",
    )]);
    let column = column(folder.path().join("a.jsonl"), "ids");
    assert_eq!(column.kind().unwrap(), ColumnKind::Ids);
    let ids = column.open_ids(None).unwrap();
    let corpus = ids.train.corpus();
    let mut row = [0; 3];
    corpus.write(0, &mut row);
    assert_eq!(
        (row, corpus.n_tokens(), corpus.vocab_size()),
        ([5, 6, 300], 3, 301)
    );
    let small = error(column.open_ids(Some(300)));
    assert!(small.contains("has the id 300"), "{small}");
    let texts = error(column.open_texts());
    assert!(texts.contains("has no column `ids` of texts"), "{texts}");
}

#[test]
fn lines_that_are_no_records_are_named() {
    for (lines, message) in [
        (
            "{\"text\": \"a\"}\nno json",
            "(line 2: expected ident at column 2)",
        ),
        ("{\"text\": \"a\"} {}", "(line 1: trailing characters"),
        ("[1]", "(line 1: invalid type"),
        ("{\"text\": \"a", "(line 1: EOF"),
        (
            "{\"text\": 7}",
            "has no column `text` of texts or lists of ids (in line 1 it is something else)",
        ),
        (
            "{\"words\": \"a\", \"n\": 1}",
            "has no column `text` of texts or lists of ids (it has `words`, `n`)",
        ),
        ("{\"text\": [-1]}", "has the id -1"),
        ("{\"text\": [1.5]}", "(line 1: invalid type"),
        ("{\"text\": \"\"}", ""),
    ] {
        let folder = folder(&[("a.jsonl", lines.as_bytes())]);
        let column = column(folder.path().join("a.jsonl"), "text");
        match message {
            "" => assert_eq!(text(&column.open_texts().unwrap()), "\0"),
            _ => {
                let texts = column.open_texts().err().map(|error| error.to_string());
                let ids = column.open_ids(None).err().map(|error| error.to_string());
                let errors = [texts, ids].map(Option::unwrap_or_default);
                assert!(
                    errors.iter().any(|error| error.contains(message)),
                    "{errors:?}"
                );
            }
        }
    }
    let deep = format!("{{\"x\": {}", "[".repeat(100_000));
    let folder = folder(&[("deep.jsonl", deep.as_bytes())]);
    let deep = error(column(folder.path().join("deep.jsonl"), "text").open_texts());
    assert!(deep.contains("(line 1: EOF"), "{deep}");
}

#[test]
fn a_column_through_a_tokenizer_has_ends_between_texts() {
    let folder = folder(&[("a.jsonl", &b"{\"text\": \"one two\"}\n".repeat(40))]);
    let text = column(folder.path().join("a.jsonl"), "text")
        .open_texts()
        .unwrap();
    let tokenizer = train_tokenizer(&text.train, 262).unwrap();
    let ids = encode(&text.train, &tokenizer).unwrap();
    let mut row = vec![0; ids.len()];
    ids.corpus().write(0, &mut row);
    let end = tokenizer.end().unwrap() as i32;
    assert_eq!(
        row.iter().filter(|&&id| id == end).count(),
        text.train.len() / 8
    );
    assert_eq!(ids.corpus().text_bytes(), Some(text.train.len()));
}

#[test]
fn texts_are_whole_whatever_a_tokenizer_asks_for_short_ones() {
    let texts = folder(&[]);
    let text = "The cat sat on the mat, and the dog on the log.\n".repeat(50);
    let splits = ByteCorpus::from_bytes("cats", text).unwrap().split();
    let tokenizer = train_tokenizer(&splits.train, 300).unwrap();
    let path = texts.path().join("tokenizer.json");
    tokenizer.save(&path).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    json["truncation"] = serde_json::json!({
        "direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0
    });
    json["padding"] = serde_json::json!({
        "strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "a"
    });
    // With the byte order mark of an editor.
    fs::write(&path, format!("\u{feff}{json}")).unwrap();
    let short = Tokenizer::open(&path).unwrap();
    assert_eq!(
        encode(&splits.valid, &short).unwrap().len(),
        encode(&splits.valid, &tokenizer).unwrap().len()
    );
}

#[test]
fn formats_are_told_by_names() {
    let of = |name: &str| ColumnFormat::of(Path::new(name));
    assert_eq!(of("data/a.PARQUET"), Some(ColumnFormat::Parquet));
    for name in ["a.jsonl", "a.ndjson", "a.jsonl.gz", "a.JSONL.xz"] {
        assert_eq!(of(name), Some(ColumnFormat::JsonLines), "{name}");
    }
    assert_eq!([of("a.json"), of("a.gz"), of("jsonl"), of("/")], [None; 4]);
}

#[cfg(not(feature = "parquet"))]
#[test]
fn parquet_needs_a_feature() {
    let folder = folder(&[("a.parquet", b"PAR1")]);
    let path = folder.path().join("a.parquet");
    let error = error(Column::new(path, ColumnFormat::Parquet, "text".to_owned()).open_texts());
    assert!(
        error.ends_with("build with the cargo feature `parquet`"),
        "{error}"
    );
}
