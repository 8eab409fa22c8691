//! Guarantees for training and evaluating a model with a head.

#![allow(clippy::unwrap_used)]

use std::fs;

use burn::data::dataloader::DataLoader;
use burn::tensor::{Bool, Int, Tensor};
use burn_flex::Flex;
use reformer_datasets::labelled::{
    BEGIN, LabelledBatch, LabelledRows, LabelledTexts, Questions, ShuffledRows,
};
use reformer_datasets::{
    DatasetError, EvalLoaderConfig, SizeError, TrainLoader, TrainLoaderConfig,
};

/// Row `i` has `i % 7 + 1` tokens `i` and the targets `i` and `2 i`.
fn rows(n_rows: u16) -> LabelledRows {
    let row = |i: u16| {
        (
            vec![i; usize::from(i % 7) + 1],
            [i32::from(i), 2 * i32::from(i)],
        )
    };
    LabelledRows::new(300, (0..n_rows).map(row))
}

fn ints(tensor: &Tensor<Flex, 2, Int>) -> Vec<Vec<i64>> {
    let elements: Vec<i64> = tensor.to_data().iter().collect();
    let rows = elements.chunks(tensor.dims()[1]);
    rows.map(<[_]>::to_vec).collect()
}

fn bools(tensor: &Tensor<Flex, 2, Bool>) -> Vec<Vec<bool>> {
    let elements: Vec<bool> = tensor.to_data().iter().collect();
    let rows = elements.chunks(tensor.dims()[1]);
    rows.map(<[_]>::to_vec).collect()
}

/// Asserts that a batch has its rows, filled up to `length`.
fn assert_filled(batch: &LabelledBatch<Flex>, length: usize) {
    assert_eq!(batch.tokens.dims(), [batch.rows.len(), length]);
    let read = ints(&batch.tokens).into_iter().zip(bools(&batch.mask_pad));
    let read = read.zip(ints(&batch.targets)).zip(&batch.rows);
    for (index, (((tokens, is_padding), targets), &row)) in read.enumerate() {
        let n_tokens = row % 7 + 1;
        assert_eq!(batch.length(index), n_tokens);
        for (i, (token, is_padding)) in tokens.into_iter().zip(is_padding).enumerate() {
            assert_eq!(is_padding, i >= n_tokens);
            assert!(is_padding || token == row as i64);
        }
        assert_eq!(targets, [row as i64, 2 * row as i64]);
    }
}

fn longest(rows: &[usize]) -> usize {
    rows.iter().map(|row| row % 7 + 1).max().expect("some")
}

fn loader(n_rows: u16, n_workers: usize) -> TrainLoader<Flex, ShuffledRows> {
    TrainLoaderConfig::new(1, 4, 5)
        .with_seed(3)
        .with_n_workers(n_workers)
        .init_labelled(&rows(n_rows), &Default::default())
        .expect("there are rows")
}

#[test]
fn every_pass_has_each_row_once() {
    let loader = loader(10, 0);
    let read: Vec<usize> = (0..10).flat_map(|step| loader.batch(step).rows).collect();
    let mut passes = read.chunks(10).map(<[_]>::to_vec).collect::<Vec<_>>();
    assert_ne!(passes[0], passes[1]);
    for pass in &mut passes {
        pass.sort_unstable();
        assert_eq!(*pass, (0..10).collect::<Vec<_>>());
    }
}

#[test]
fn batches_are_filled_up_and_follow_from_their_step() {
    let whole = loader(30, 0);
    for step in 0..9 {
        let batch = whole.batch(step);
        assert_eq!((batch.step, batch.rows.len()), (step, 4));
        assert_filled(&batch, longest(&batch.rows));
        // A part of the batch is padded to the same length as the whole batch.
        let part = loader(30, 0).taking_rows(1..3).batch(step);
        assert_eq!(part.rows, batch.rows[1..3]);
        assert_filled(&part, longest(&batch.rows));
    }
    let resumed: Vec<_> = loader(30, 2).starting_at(3).iter().collect();
    let steps: Vec<u64> = resumed.iter().map(|batch| batch.step).collect();
    assert_eq!(steps, [3, 4]);
    for batch in resumed {
        assert_eq!(batch.rows, whole.batch(batch.step).rows);
    }
}

#[test]
fn evaluation_goes_through_rows_in_order() {
    let config = EvalLoaderConfig::new(1, 4);
    let read = |config: EvalLoaderConfig| {
        let loader = config.init_labelled::<Flex>(&rows(10), &Default::default());
        loader.map(|loader| loader.iter().collect::<Vec<_>>())
    };
    let batches = read(config.clone()).expect("there are rows");
    let of_batches: Vec<_> = batches.iter().map(|batch| batch.rows.clone()).collect();
    assert_eq!(of_batches, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
    for batch in &batches {
        assert_filled(batch, longest(&batch.rows));
    }
    let first = read(config.clone().with_max_windows(Some(3))).expect("there are rows");
    assert_eq!(first.len(), 1);
    let none = read(config.with_max_windows(Some(0)));
    assert!(matches!(
        none,
        Err(DatasetError::Size(SizeError::ZeroMaxWindows))
    ));
    let empty = EvalLoaderConfig::new(1, 4).init_labelled::<Flex>(&rows(0), &Default::default());
    assert!(matches!(
        empty,
        Err(DatasetError::Size(SizeError::NoSequences))
    ));
}

#[test]
fn folders_are_classes() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let at = |path: &str| folder.path().join(path);
    for class in ["pos", "neg/deep", "unsup"] {
        fs::create_dir_all(at(class))?;
    }
    for (file, text) in [
        ("pos/0_9.txt", "good"),
        ("pos/1_7.txt", "good"),
        ("neg/deep/0_1.txt", "\u{feff}bäd"),
        ("unsup/0_0.txt", "who knows"),
        ("urls_pos.txt", "http"),
    ] {
        fs::write(at(file), text)?;
    }
    let texts = LabelledTexts::open_folder(folder.path())?;
    assert_eq!(texts.classes(), ["neg", "pos"]);
    let read: Vec<_> = (0..texts.len()).filter_map(|i| texts.get(i)).collect();
    assert_eq!(read, [("bäd", 0), ("good", 1), ("good", 1)]);
    let encoded = texts.encode(4);
    assert_eq!(encoded.classes(), texts.classes());
    assert_eq!(encoded.report(), texts.report());
    let rows = encoded.rows();
    assert_eq!(rows.tokens(0), [BEGIN, 98, 0xc3, 0xa4]);
    assert_eq!((rows.targets(0), rows.targets(2)), (&[0][..], &[1][..]));
    // Equal texts stay together.
    let [train, valid] = texts.split(2)?;
    assert_eq!(train.len() + valid.len(), 3);
    let report = valid.report();
    assert_eq!(report.files, 3);
    assert_eq!(report.count("records"), Some(valid.len() as u64));
    let skipped: Vec<(&str, u64)> = report
        .skipped
        .iter()
        .map(|skipped| (&*skipped.reason, skipped.count))
        .collect();
    assert_eq!(
        skipped,
        [
            ("texts without a class", 1),
            ("files outside the class folders", 1)
        ]
    );

    let swapped = ["pos", "neg"].map(str::to_owned);
    assert_eq!(
        texts.clone().with_classes(&swapped)?.get(0),
        Some(("bäd", 1))
    );
    let error = texts.with_classes(&swapped[..1]).expect_err("a class more");
    assert!(error.to_string().contains("class `neg`"), "{error}");

    fs::write(at("pos/2_8.txt"), b"caf\xe9")?;
    let error = LabelledTexts::open_folder(folder.path()).expect_err("Latin 1");
    assert!(error.to_string().contains("2_8.txt"), "{error}");
    let error = LabelledTexts::open_folder(at("pos")).expect_err("no folder in it");
    assert!(
        error.to_string().contains("no folder with texts"),
        "{error}"
    );
    Ok(())
}

#[test]
fn broken_files_are_named() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("data");
    fs::write(&path, "text,label\nx,\n")?;
    let message = |error: DatasetError| error.to_string();
    let table = LabelledTexts::open_table(&path)
        .map_err(message)
        .unwrap_err();
    assert!(
        table.contains("data") && table.contains("line 2"),
        "{table}"
    );
    let squad = Questions::open_squad(&path).map_err(message).unwrap_err();
    assert!(
        squad.contains("data") && squad.contains("a file of SQuAD"),
        "{squad}"
    );
    let none = Questions::open_squad(folder.path().join("none"));
    assert!(matches!(none, Err(DatasetError::NotFound { .. })));
    Ok(())
}

#[test]
fn sample_of_classes_is_divided_among_its_parts() {
    let texts = LabelledTexts::sample();
    assert_eq!(texts.len(), 2509);
    assert_eq!(texts.classes(), ["English", "German", "Shakespeare"]);
    let [train, valid] = texts.split(10).unwrap();
    assert_eq!(train.len() + valid.len(), texts.len());
    let mut classes: Vec<usize> = (0..).map_while(|i| Some(valid.get(i)?.1)).collect();
    classes.sort_unstable();
    classes.dedup();
    assert_eq!(classes, [0, 1, 2]);
}
