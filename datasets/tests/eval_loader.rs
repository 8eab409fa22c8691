//! Guarantees for evaluation: all windows of a split, in order, the same each time.

use std::sync::Arc;

use burn::data::dataloader::DataLoader;
use burn::data::dataloader::split::split_dataloader;
use burn_flex::Flex;
use proptest::prelude::*;
use reformer_datasets::{
    ByteCorpus, DuplicationConfig, EvalLoader, EvalLoaderConfig, LmBatch, Split, SplitName,
};

/// Step, shape, tokens, targets.
type Read = (u64, [usize; 2], Vec<i64>, Vec<i64>);

fn read_all(loader: &dyn DataLoader<Flex, LmBatch<Flex>>) -> Vec<Read> {
    let read = |batch: LmBatch<Flex>| {
        (
            batch.step,
            batch.tokens.dims(),
            batch.tokens.to_data().iter().collect(),
            batch.targets.to_data().iter().collect(),
        )
    };
    loader.iter().map(read).collect()
}

fn positions(len: u8) -> Split {
    let bytes: Vec<u8> = (0..len).collect();
    ByteCorpus::from_bytes("positions", bytes)
        .expect("there are bytes")
        .whole_as(SplitName::Valid)
}

fn loader(config: &EvalLoaderConfig, len: u8) -> EvalLoader<Flex> {
    config
        .init(&positions(len), &Default::default())
        .expect("there are bytes enough")
}

#[test]
fn batches_are_in_order_and_the_last_is_smaller() {
    let loader = loader(&EvalLoaderConfig::new(3, 2), 11);
    let expected = [
        (0, [2, 3], vec![0, 1, 2, 3, 4, 5], vec![1, 2, 3, 4, 5, 6]),
        (1, [1, 3], vec![6, 7, 8], vec![7, 8, 9]),
    ];
    assert_eq!(read_all(&loader), expected);
    assert_eq!(read_all(&loader), expected, "a second time");
    assert_eq!(loader.num_items(), 3);
}

#[test]
fn at_most_max_windows_are_read() {
    let n_windows = |max_windows| {
        let config = EvalLoaderConfig::new(3, 2).with_max_windows(max_windows);
        let loader = loader(&config, 20);
        let read: usize = read_all(&loader).iter().map(|(_, [n, _], ..)| n).sum();
        assert_eq!(read, loader.num_items());
        read
    };
    assert_eq!(
        [None, Some(1), Some(4), Some(99)].map(n_windows),
        [6, 1, 4, 6]
    );
}

#[test]
fn progress_counts_windows() {
    let loader = loader(&EvalLoaderConfig::new(3, 2), 11);
    let mut iterator = loader.iter();
    let mut processed = vec![iterator.progress().items_processed];
    while iterator.next().is_some() {
        assert_eq!(iterator.progress().items_total, 3);
        processed.push(iterator.progress().items_processed);
    }
    assert_eq!(processed, [0, 2, 3]);
}

#[test]
fn parts_for_devices_keep_order_and_numbers() {
    // 6 windows in batches of 4: devices get 0..2, 2..4 and 4..6.
    let config = EvalLoaderConfig::new(3, 4);
    let parts = split_dataloader(Arc::new(loader(&config, 20)), &[Default::default(); 3]);
    let read: Vec<Read> = parts
        .iter()
        .flat_map(|part| read_all(part.as_ref()))
        .collect();
    let steps: Vec<u64> = read.iter().map(|(step, ..)| *step).collect();
    assert_eq!(steps, [0, 0, 1]);
    let tokens: Vec<i64> = read
        .into_iter()
        .flat_map(|(_, _, tokens, _)| tokens)
        .collect();
    assert_eq!(tokens, (0..18).collect::<Vec<_>>());
}

#[test]
fn slice_of_a_slice_keeps_the_batches_of_the_whole() {
    // Rows 2..11 of 12, and of these 1..8, in batches of 4.
    let config = EvalLoaderConfig::new(1, 4);
    let part = loader(&config, 13).slice(2, 11).slice(1, 8);
    let read: Vec<(u64, Vec<i64>)> = read_all(part.as_ref())
        .into_iter()
        .map(|(step, _, tokens, _)| (step, tokens))
        .collect();
    assert_eq!(read, [(0, vec![3]), (1, vec![4, 5, 6, 7]), (2, vec![8, 9])]);
    let mut iterator = part.iter();
    let mut processed = vec![iterator.progress().items_processed];
    while iterator.next().is_some() {
        processed.push(iterator.progress().items_processed);
    }
    assert_eq!((part.num_items(), processed), (7, vec![0, 1, 5, 7]));
}

#[test]
fn empty_slice_has_no_batches() {
    let empty = loader(&EvalLoaderConfig::new(1, 4), 13).slice(6, 6);
    assert_eq!(empty.num_items(), 0);
    assert!(read_all(empty.as_ref()).is_empty());
}

#[test]
#[should_panic(expected = "within the 12 items of its loader: 3..13")]
fn slice_beyond_the_end_panics() {
    loader(&EvalLoaderConfig::new(1, 4), 13).slice(3, 13);
}

#[test]
fn loader_on_another_device_reads_the_same() {
    let loader = loader(&EvalLoaderConfig::new(3, 2), 20);
    let moved = loader.to_device(&Default::default());
    assert_eq!(read_all(moved.as_ref()), read_all(&loader));
}

#[test]
fn sizes_of_zero_are_refused() {
    let error = |config: EvalLoaderConfig| {
        config
            .init::<Flex>(&positions(20), &Default::default())
            .expect_err("a size is 0")
            .to_string()
    };
    assert_eq!(
        error(EvalLoaderConfig::new(0, 2)),
        "window_length is 0, and must be at least 1: choose the sequence length of the model"
    );
    assert_eq!(
        error(EvalLoaderConfig::new(3, 0)),
        "batch_size is 0, and must be at least 1: choose the number of windows in a batch"
    );
    assert_eq!(
        error(EvalLoaderConfig::new(3, 2).with_max_windows(Some(0))),
        "max_windows is 0, and must be at least 1: choose more, or leave it out to read the whole split"
    );
}

#[test]
fn context_is_read_again_and_not_counted_again() {
    let loader = loader(&EvalLoaderConfig::new(4, 2).with_context_length(Some(3)), 7);
    let expected = [
        (
            0,
            [2, 4],
            vec![0, 1, 2, 3, 1, 2, 3, 4],
            vec![1, 2, 3, 4, -1, -1, -1, 5],
        ),
        (1, [1, 4], vec![2, 3, 4, 5], vec![-1, -1, -1, 6]),
    ];
    assert_eq!(read_all(&loader), expected);
}

#[test]
fn sequences_without_end_need_a_number_of_them() {
    let task = Arc::new(DuplicationConfig::new().init().expect("the paper's task"));
    let init =
        |config: EvalLoaderConfig| config.init_sequences::<Flex>(task.clone(), &Default::default());
    let config = EvalLoaderConfig::new(1_024, 2);
    let loader = init(config.clone().with_max_windows(Some(5))).expect("5 sequences");
    assert_eq!(loader.num_items(), 5);
    assert_eq!(read_all(&loader).len(), 3);
    assert_eq!(
        init(config).expect_err("it would never end").to_string(),
        "these sequences never end, so an evaluation needs a number of them: set max_windows"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn batches_of_a_slice_are_its_rows_in_order(
        n_rows in 1_u8..200,
        batch_size in 1_usize..20,
        bounds in (0_usize..200, 0_usize..200),
    ) {
        let [a, b] = [bounds.0, bounds.1].map(|bound| bound.min(n_rows.into()));
        let (start, end) = (a.min(b), a.max(b));
        let slice = loader(&EvalLoaderConfig::new(1, batch_size), n_rows + 1).slice(start, end);
        let mut seen = start;
        for (step, [n, _], tokens, _) in read_all(slice.as_ref()) {
            let rows: Vec<i64> = (seen..seen + n).map(|row| row as i64).collect();
            prop_assert_eq!(tokens, rows);
            prop_assert!(n > 0);
            prop_assert_eq!(seen / batch_size, step as usize);
            seen += n;
            prop_assert_eq!((seen - 1) / batch_size, step as usize);
        }
        prop_assert_eq!(seen, end);
    }

    #[test]
    fn every_byte_but_the_first_and_the_tail_is_a_target_once(
        len in 2_u8..=255,
        window_length in 1_usize..50,
        batch_size in 1_usize..9,
    ) {
        prop_assume!(window_length < usize::from(len));
        let loader = loader(&EvalLoaderConfig::new(window_length, batch_size), len);
        let targets: Vec<i64> = read_all(&loader).into_iter().flat_map(|(.., targets)| targets).collect();
        prop_assert_eq!(&targets, &(1..=targets.len() as i64).collect::<Vec<_>>());
        prop_assert!(usize::from(len) - 1 - targets.len() < window_length);
    }
}
