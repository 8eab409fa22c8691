//! Columns of Parquet files.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use reformer_datasets::Corpus;
use reformer_datasets::tokens::{Column, ColumnFormat, ColumnKind};

use crate::{error, folder, text};

const SCHEMA: &str = "message schema {
    optional int32 n;
    optional binary text (UTF8);
    optional group ids (LIST) { repeated group list { optional int64 element; } }
    optional group short (LIST) { repeated group list { required int32 element; } }
}";

/// Row groups of three records each: `one`, nothing and `three`, with ids, none and others.
fn file(compression: Compression, n_groups: usize) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .build();
    let mut file = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::new(properties)).unwrap();
    for _ in 0..n_groups {
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<Int32Type>()
            .write_batch(&[7], Some(&[1, 0, 0]), None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let texts = ["one", "three"].map(ByteArray::from);
        column
            .typed::<ByteArrayType>()
            .write_batch(&texts, Some(&[1, 0, 1]), None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let (defined, repeated) = ([3, 3, 0, 3], [0, 1, 0, 0]);
        column
            .typed::<Int64Type>()
            .write_batch(&[1, 2, 300], Some(&defined), Some(&repeated))
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let (defined, repeated) = ([2, 1, 2, 2], [0, 0, 0, 1]);
        column
            .typed::<Int32Type>()
            .write_batch(&[4, 5, 6], Some(&defined), Some(&repeated))
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
    file
}

fn in_file(path: &Path, name: &str) -> Column {
    Column::new(path.to_owned(), ColumnFormat::Parquet, name.to_owned())
}

#[test]
fn columns_are_read_through_all_row_groups() {
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
    ] {
        let folder = folder(&[("a.parquet", &file(compression, 2))]);
        let path = folder.path().join("a.parquet");
        let texts = in_file(&path, "text").open_texts().unwrap();
        assert_eq!(text(&texts), "one\0three\0one\0three\0");
        let report = texts.train.corpus().report();
        assert_eq!(
            (report.files, report.count("texts"), report.skipped[0].count),
            (1, Some(4), 2)
        );
        for (name, expected) in [
            ("ids", vec![1, 2, 300, 1, 2, 300]),
            ("short", vec![4, 5, 6, 4, 5, 6]),
        ] {
            let column = in_file(&path, name);
            assert_eq!(column.kind().unwrap(), ColumnKind::Ids);
            let ids = column.open_ids(None).unwrap();
            let mut row = vec![0; ids.train.corpus().n_tokens()];
            ids.train.corpus().write(0, &mut row);
            assert_eq!(row, expected, "{name}");
            assert_eq!(ids.train.corpus().report().count("lists"), Some(4));
        }
    }
}

#[test]
fn files_of_pyarrow_have_what_was_written() {
    let texts = "One day, a girl went out.\0Der Bär fraß Käse.\0\0One day, a girl went out.\0";
    let ids = [1, 2, 3, 50256, 7, 8];
    for name in ["pyarrow.parquet", "pyarrow_v2.parquet"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data")
            .join(name);
        for column in ["text", "large", "meta.url"] {
            let found = in_file(&path, column).open_texts().unwrap();
            assert_eq!(text(&found), texts.repeat(3), "{name}, {column}");
            assert_eq!(found.train.corpus().report().skipped[0].count, 3);
        }
        for column in ["input_ids", "labels", "short"] {
            let found = in_file(&path, column).open_ids(None).unwrap();
            let mut row = vec![0; found.train.corpus().n_tokens()];
            found.train.corpus().write(0, &mut row);
            assert_eq!(row, ids.repeat(3), "{name}, {column}");
            assert_eq!(found.train.corpus().report().count("lists"), Some(9));
        }
    }
}

#[test]
fn few_bytes_that_stand_for_many_ids_take_no_memory() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/many_ids.parquet");
    assert!(fs::metadata(&path).unwrap().len() < 1_000);
    let many = error(in_file(&path, "ids").open_ids(None));
    assert!(many.contains("more than 67108864 values"), "{many}");
}

#[test]
fn what_is_no_column_of_texts_or_ids_is_named() {
    let folder = folder(&[
        ("a.parquet", &file(Compression::SNAPPY, 1)),
        ("b.parquet", b"PAR1"),
    ]);
    let path = folder.path().join("a.parquet");
    let missing = error(in_file(&path, "texts").open_texts());
    assert!(
        missing.contains(
            "has no column `texts` of texts or lists of ids (it has `n`, `text`, `ids.list.element`"
        ),
        "{missing}"
    );
    let number = error(in_file(&path, "n").open_texts());
    assert!(
        number.contains(" (it is of INT32): name another one"),
        "{number}"
    );
    let ids = error(in_file(&path, "ids").open_texts());
    assert!(ids.contains("has no column `ids`"), "{ids}");
    let cut = error(in_file(&folder.path().join("b.parquet"), "text").open_texts());
    assert!(cut.contains("is not a Parquet file"), "{cut}");
    let shards = error(in_file(&folder.path().join("none"), "text").open_texts());
    assert!(shards.contains("there is no file"), "{shards}");
}

#[test]
fn files_that_are_cut_off_are_refused_wherever_they_are_cut() {
    let whole = file(Compression::SNAPPY, 1);
    for length in (0..whole.len()).step_by(7) {
        let folder = folder(&[("a.parquet", &whole[..length])]);
        let message = error(in_file(&folder.path().join("a.parquet"), "text").open_texts());
        assert!(
            message.contains("is not a Parquet file"),
            "{length}: {message}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_give_data_or_a_line(
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4),
        kind in 0..5_usize,
    ) {
        let mut bytes = match kind {
            0 => file(Compression::UNCOMPRESSED, 1),
            1 => file(Compression::SNAPPY, 1),
            2 => file(Compression::ZSTD(ZstdLevel::default()), 1),
            3 => include_bytes!("../data/pyarrow.parquet").to_vec(),
            _ => include_bytes!("../data/pyarrow_v2.parquet").to_vec(),
        };
        for (position, byte) in changes {
            let position = position % bytes.len();
            bytes[position] = byte;
        }
        let folder = folder(&[("a.parquet", &bytes)]);
        let path = folder.path().join("a.parquet");
        let texts = in_file(&path, "text").open_texts().map(drop);
        let ids = ["ids", "input_ids"].map(|name| in_file(&path, name).open_ids(None).map(drop));
        for error in [texts].into_iter().chain(ids).filter_map(Result::err) {
            let message = error.to_string();
            prop_assert!(!message.contains(char::is_control), "{message:?}");
        }
    }
}
