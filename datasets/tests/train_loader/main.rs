//! Guarantees for training: a batch is a function of its step, and a pass reads every window once.

mod any_settings;

use std::sync::{Arc, Mutex};

use burn::data::dataloader::DataLoader;
use burn::data::dataloader::split::split_dataloader;
use burn::tensor::{Int, Tensor};
use burn_flex::Flex;
use reformer_datasets::{
    ByteCorpus, DatasetError, DuplicationConfig, LmBatch, Sequences, SizeError, Split, SplitName,
    TrainLoader, TrainLoaderConfig, Windows,
};

/// Step, tokens, targets: row by row.
type Read = (u64, Vec<Vec<i64>>, Vec<Vec<i64>>);

fn rows(tensor: &Tensor<Flex, 2, Int>) -> Vec<Vec<i64>> {
    let elements: Vec<i64> = tensor.to_data().iter().collect();
    elements
        .chunks(tensor.dims()[1])
        .map(<[_]>::to_vec)
        .collect()
}

fn read(batch: &LmBatch<Flex>) -> Read {
    (batch.step, rows(&batch.tokens), rows(&batch.targets))
}

fn epoch(loader: &dyn DataLoader<Flex, LmBatch<Flex>>) -> Vec<Read> {
    loader.iter().map(|batch| read(&batch)).collect()
}

fn steps(loader: &dyn DataLoader<Flex, LmBatch<Flex>>) -> Vec<u64> {
    loader.iter().map(|batch| batch.step).collect()
}

/// A split in which the byte at a position has the position's value.
fn positions(len: u8) -> Split {
    let bytes: Vec<u8> = (0..len).collect();
    ByteCorpus::from_bytes("positions", bytes)
        .expect("there are bytes")
        .whole_as(SplitName::Train)
}

fn loader(config: &TrainLoaderConfig) -> TrainLoader<Flex> {
    config
        .init(&positions(200), &Default::default())
        .expect("200 bytes are enough")
}

/// Windows of 7 in batches of 4: passes of 27 windows, so they end inside a batch.
fn small() -> TrainLoaderConfig {
    TrainLoaderConfig::new(7, 4, 5).with_seed(11)
}

#[test]
fn first_batches_of_a_seed_are_these_for_ever() {
    let first_tokens = |step| {
        let tokens = rows(&loader(&small()).batch(step).tokens);
        tokens.iter().map(|row| row[0]).collect::<Vec<_>>()
    };
    assert_eq!(first_tokens(0), [108, 45, 94, 66]);
    assert_eq!(first_tokens(1_000), [16, 9, 30, 184]);
}

#[test]
fn sample_has_windows_of_64k_with_the_bytes_of_its_training_split() {
    let split = ByteCorpus::sample().split().train;
    let loader = TrainLoaderConfig::new(65_536, 2, 1)
        .init::<Flex>(&split, &Default::default())
        .expect("900,000 bytes are enough");
    let text: Vec<i64> = split.as_bytes().iter().copied().map(i64::from).collect();
    let (_, tokens, targets) = read(&loader.batch(3));
    for (tokens, targets) in tokens.iter().zip(&targets) {
        let window = text
            .windows(65_537)
            .find(|window| window.starts_with(tokens));
        assert!(
            window
                .expect("the inputs are in the text")
                .ends_with(targets)
        );
    }
}

#[test]
fn iterators_continue_where_the_last_one_ended() {
    let loader = loader(&small());
    assert_eq!(loader.num_items(), 20);
    assert_eq!(steps(&loader), [0, 1, 2, 3, 4]);
    assert_eq!(steps(&loader), [5, 6, 7, 8, 9]);
    assert_eq!(loader.next_step(), 10);
}

#[test]
fn iterator_dropped_half_way_leaves_the_rest_of_its_epoch() {
    let loader = loader(&small());
    assert_eq!(loader.iter().take(2).count(), 2);
    assert_eq!(loader.next_step(), 2);
    assert_eq!(steps(&loader), [2, 3, 4]);
    assert_eq!(steps(&loader), [5, 6, 7, 8, 9]);
}

#[test]
fn progress_counts_the_windows_of_the_epoch() {
    let loader = loader(&small()).starting_at(7);
    let mut iterator = loader.iter();
    let mut processed = vec![iterator.progress().items_processed];
    while iterator.next().is_some() {
        assert_eq!(iterator.progress().items_total, 20);
        processed.push(iterator.progress().items_processed);
    }
    assert_eq!(processed, [8, 12, 16, 20]);
}

#[test]
fn batches_do_not_depend_on_the_epochs_or_on_what_was_read_before() {
    let one = loader(&small());
    let other = loader(&TrainLoaderConfig::new(7, 4, 1_000).with_seed(11));
    for step in [50, 3, 7, 6, 0, 49] {
        assert_eq!(read(&one.batch(step)), read(&other.batch(step)));
    }
}

#[test]
fn threads_share_a_stream_without_reading_a_step_twice() {
    let loader = loader(&TrainLoaderConfig::new(7, 4, 300));
    let taken = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let read = epoch(&loader);
                taken.lock().expect("no thread panicked").extend(read);
            });
        }
    });
    let mut taken = taken.into_inner().expect("no thread panicked");
    taken.sort();
    // A thread that starts after the others have ended the epoch reads the next.
    assert!(
        taken.len() >= 300 && taken.len().is_multiple_of(300),
        "{}",
        taken.len()
    );
    for (step, batch) in (0..).zip(taken) {
        assert_eq!(batch, read(&loader.batch(step)));
    }
}

#[test]
fn workers_change_nothing() {
    let again = |step| loader(&small()).starting_at(step);
    for n_workers in [1, 2, 5] {
        let helped = loader(&small().with_n_workers(n_workers));
        assert_eq!(helped.iter().take(2).count(), 2);
        assert_eq!(helped.next_step(), 2, "what was read ahead is not taken");
        let rest = epoch(&helped);
        assert_eq!(rest, epoch(&again(2)));
        assert_eq!(epoch(&helped), epoch(&again(5)));
        let part = helped.slice(6, 13);
        assert_eq!(epoch(part.as_ref()), epoch(again(10).slice(6, 13).as_ref()));
    }
}

#[test]
fn iterators_with_workers_share_a_stream() {
    let loader = loader(&small().with_n_workers(2));
    let (mut one, mut other) = (loader.iter(), loader.iter());
    let mut taken = vec![
        one.next(),
        other.next(),
        other.next(),
        one.next(),
        other.next(),
    ];
    for (step, batch) in (0..).zip(taken.drain(..)) {
        let batch = batch.expect("an epoch has 5 steps");
        assert_eq!(read(&batch), read(&loader.batch(step)));
    }
    assert!(one.next().is_none() && other.next().is_none());
}

#[test]
fn any_sequences_are_trained_on_in_passes() {
    let windows = |len| Windows::new(&positions(len), 7).expect("bytes enough");
    let init = |config: TrainLoaderConfig, len| {
        config.init_sequences::<Flex>(Arc::new(windows(len)), &Default::default())
    };
    let loader = init(small(), 200).expect("28 windows");
    let mut starts: Vec<i64> = (0..7)
        .flat_map(|step| read(&loader.batch(step)).1)
        .map(|row| row[0])
        .collect();
    assert_ne!(starts, (0..28).map(|i| 7 * i).collect::<Vec<_>>());
    starts.sort_unstable();
    assert_eq!(starts, (0..28).map(|i| 7 * i).collect::<Vec<_>>());

    let error = init(TrainLoaderConfig::new(8, 4, 5), 200).expect_err("another length");
    assert_eq!(
        error.to_string(),
        "window_length is 8, but the sequences have 7 tokens: choose 7"
    );
}

#[test]
fn sequences_without_end_come_in_their_order() {
    let task = DuplicationConfig::new()
        .with_seq_length(8)
        .init()
        .expect("the settings can be");
    let loader = TrainLoaderConfig::new(8, 3, 10)
        .init_sequences::<Flex>(Arc::new(task.clone()), &Default::default())
        .expect("the length is that of the task");
    let (mut tokens, mut targets) = ([0; 8], [0; 8]);
    task.read(3 * 25 + 1, &mut tokens, &mut targets);
    let (_, read_tokens, read_targets) = read(&loader.batch(25));
    assert_eq!(read_tokens[1], tokens.map(i64::from));
    assert_eq!(read_targets[1], targets.map(i64::from));
}

#[test]
fn loader_on_another_device_is_the_same_stream() {
    let loader = loader(&small());
    let moved = loader.to_device(&Default::default());
    assert_eq!(steps(moved.as_ref()), [0, 1, 2, 3, 4]);
    assert_eq!(loader.next_step(), 5);
    assert_eq!(steps(&loader), [5, 6, 7, 8, 9]);
}

#[test]
fn devices_share_an_epoch_in_whole_batches() {
    // Burn divides 24, 20 and 8 rows among three devices in thirds, rounded down but for the last.
    for (n_steps, offsets) in [
        (6, [vec![0, 1], vec![2, 3], vec![4, 5]]),
        (5, [vec![0], vec![1, 2], vec![3, 4]]),
        (2, [vec![], vec![0], vec![1]]),
    ] {
        let config = TrainLoaderConfig::new(7, 4, n_steps).with_seed(11);
        let parts = split_dataloader(Arc::new(loader(&config)), &[Default::default(); 3]);
        let n_items: Vec<usize> = parts.iter().map(|part| part.num_items()).collect();
        assert_eq!(n_items, offsets.each_ref().map(|offsets| 4 * offsets.len()));
        let whole = loader(&config);
        for first in [0, n_steps as u64] {
            let read: Vec<Vec<Read>> = parts.iter().map(|part| epoch(part.as_ref())).collect();
            for (read, offsets) in read.iter().zip(&offsets) {
                let taken: Vec<u64> = read.iter().map(|(step, ..)| step - first).collect();
                assert_eq!(&taken, offsets);
            }
            assert_eq!(read.concat(), epoch(&whole));
        }
    }
}

#[test]
fn slice_of_a_slice_counts_from_its_start() {
    let slice = loader(&small()).slice(4, 20).slice(4, 12);
    assert_eq!(slice.num_items(), 8);
    let mut iterator = slice.iter();
    let mut processed = vec![iterator.progress().items_processed];
    while iterator.next().is_some() {
        processed.push(iterator.progress().items_processed);
    }
    assert_eq!(processed, [0, 4, 8]);
    assert_eq!(steps(slice.as_ref()), [7, 8]);
}

#[test]
fn slice_of_a_resumed_loader_leaves_out_what_is_done() {
    let resumed = loader(&small()).starting_at(8);
    let (done, rest) = (resumed.slice(0, 8), resumed.slice(8, 20));
    assert!(steps(done.as_ref()).is_empty());
    assert_eq!(steps(rest.as_ref()), [8, 9]);
    assert_eq!(steps(done.as_ref()), [10, 11]);
    assert_eq!(steps(rest.as_ref()), [12, 13, 14]);
}

#[test]
#[should_panic(expected = "within the 20 items of its loader: 0..21")]
fn slice_beyond_the_epoch_panics() {
    loader(&small()).slice(0, 21);
}

#[test]
fn sizes_of_zero_are_refused() {
    let error = |config: TrainLoaderConfig| {
        config
            .init::<Flex>(&positions(200), &Default::default())
            .expect_err("a size is 0")
            .to_string()
    };
    assert_eq!(
        error(TrainLoaderConfig::new(0, 4, 5)),
        "window_length is 0, and must be at least 1: choose the sequence length of the model"
    );
    assert_eq!(
        error(TrainLoaderConfig::new(7, 0, 5)),
        "batch_size is 0, and must be at least 1: choose the number of windows in a batch"
    );
    assert_eq!(
        error(TrainLoaderConfig::new(7, 4, 0)),
        "steps_per_epoch is 0, and must be at least 1: choose the number of batches between validations"
    );
}

#[test]
fn epoch_of_uncountable_rows_is_refused() {
    let error = TrainLoaderConfig::new(7, 2, usize::MAX)
        .init::<Flex>(&positions(200), &Default::default())
        .expect_err("the rows overflow");
    assert!(matches!(
        error,
        DatasetError::Size(SizeError::EpochTooLong { .. })
    ));
    assert_eq!(
        error.to_string(),
        format!(
            "an epoch of {0} batches of 2 windows has more than {0} windows: lower steps_per_epoch",
            usize::MAX
        )
    );
}

#[test]
fn file_too_short_for_a_window_is_named() -> Result<(), Box<dyn std::error::Error>> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), [b'x'; 100])?;
    let split = ByteCorpus::open(file.path())?.split().train;
    let error = TrainLoaderConfig::new(90, 1, 1)
        .init::<Flex>(&split, &Default::default())
        .expect_err("90 bytes have no 90 inputs and a target more");
    assert_eq!(
        error.to_string(),
        format!(
            "the train split of `{}` has 90 bytes, but one window of length 90 needs 91 (its inputs and the \
             byte after them): choose a shorter window or a larger file",
            file.path().display()
        )
    );
    Ok(())
}
