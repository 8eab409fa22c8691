//! Files made to break a reader: one line each, in little memory.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use burn_flex::Flex;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, RngSeed};
use reformer_core::reversible::Mode;
use reformer_train::metrics::read_rows;
use reformer_train::{Run, TrainError, load_model};
use serde_json::Value;

use crate::allocations::largest_in;
use crate::resume::{adam, config, train};

/// Largest piece of memory that reading a small file may ask for.
const MAX_MEMORY: usize = 64 << 20;

/// A finished run, made once.
fn finished() -> &'static Path {
    static RUN: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = RUN.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        train(
            &Run::create(config(Mode::Reversible, adam()), path).unwrap(),
            0,
        );
        folder
    });
    folder.path()
}

/// The run's configuration and weights in a folder of their own.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.mpk"] {
        fs::copy(finished().join("run").join(file), folder.path().join(file)).unwrap();
    }
    folder
}

/// Loads what may or may not be valid. Answers the line that says why not.
fn load(folder: &Path) -> Option<String> {
    let load = || load_model::<Flex>(folder, &Default::default()).map(|_| ());
    let (result, largest) = largest_in(load);
    assert!(largest < MAX_MEMORY, "{largest} bytes");
    let line = result.err()?.to_string();
    assert_eq!(line.lines().count(), 1, "{line}");
    Some(line)
}

/// Gives a record an end with the right checksum: `tag=` after a tag, `crc=` without one.
fn seal(bytes: &mut [u8], mark: &[u8; 4]) {
    let content = bytes.len() - 8;
    let checksum = crc32fast::hash(&bytes[..content]);
    bytes[content..content + 4].copy_from_slice(mark);
    bytes[content + 4..].copy_from_slice(&checksum.to_le_bytes());
}

/// Where a part of a file begins.
fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes
        .windows(part.len())
        .position(|window| window == part)
        .unwrap()
}

#[test]
fn records_with_other_shapes_names_and_sizes_are_refused() {
    let own = fs::read(finished().join("run/model.mpk")).unwrap();
    let shape = find(&own, b"shape");
    let id = find(&own, b"\xa2id\xad") + 4;
    let dtype = find(&own, b"\xa5dtype\xa3F32") + 7;
    let name = find(&own, b"embedding");
    // The first shape is [256, 16], two bytes for the first and one for the second.
    for (at, byte) in [
        (shape + 9, 17),
        (shape + 7, 255),
        (id, 0x7f),
        (dtype, b'U'),
        (name, b'E'),
    ] {
        let folder = copy();
        let mut bytes = own.clone();
        bytes[at] = byte;
        seal(&mut bytes, b"tag=");
        fs::write(folder.path().join("model.mpk"), bytes).unwrap();
        let line = load(folder.path()).expect("it is not the model's");
        assert!(line.contains("model.mpk"), "{line}");
    }
}

fn settings(cases: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        rng_seed: RngSeed::Fixed(7),
        ..ProptestConfig::with_cases(cases)
    }
}

/// The numbers in a JSON value.
fn numbers<'a>(value: &'a mut Value, found: &mut Vec<&'a mut Value>) {
    match value {
        Value::Object(map) => map.values_mut().for_each(|value| numbers(value, found)),
        Value::Array(all) => all.iter_mut().for_each(|value| numbers(value, found)),
        Value::Number(_) => found.push(value),
        _ => {}
    }
}

proptest! {
    #![proptest_config(settings(300))]

    #[test]
    fn changed_records_never_panic(
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.1, any::<usize>()),
    ) {
        let folder = copy();
        let path = folder.path().join("model.mpk");
        let mut bytes = fs::read(&path).unwrap();
        let n = bytes.len();
        // Structure is rare among numbers: every other change is where names stand.
        let names: Vec<usize> = (1..n - 8).filter(|at| bytes[at - 1..=*at].is_ascii()).collect();
        for (place, byte) in changes {
            let at = match place % 2 {
                0 => names[place / 2 % names.len()],
                _ => place / 2 % (n - 8),
            };
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(8 + cut % (n - 8));
        }
        seal(&mut bytes, if cut.is_some() { b"crc=" } else { b"tag=" });
        fs::write(&path, bytes).unwrap();
        load(folder.path());
    }

    #[test]
    fn changed_settings_never_panic(
        place in any::<usize>(),
        value in prop::sample::select(vec![
            serde_json::json!(0), serde_json::json!(1), serde_json::json!(-1), serde_json::json!(3),
            serde_json::json!(1_000_000_000), serde_json::json!(1u64 << 40), serde_json::json!(u64::MAX),
            serde_json::json!(1e308), serde_json::json!(-1e308), serde_json::json!(1e-320),
        ]),
    ) {
        let folder = copy();
        let path = folder.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let mut found = Vec::new();
        numbers(&mut config, &mut found);
        let n = found.len();
        *found[place % n] = value;
        fs::write(&path, config.to_string()).unwrap();
        load(folder.path());
        let (result, largest) = largest_in(|| Run::resume(folder.path()).map(|_| ()));
        assert!(largest < MAX_MEMORY, "{largest} bytes");
        if let Err(error) = result {
            assert_eq!(error.to_string().lines().count(), 1);
        }
    }

    #[test]
    fn changed_configurations_and_metrics_never_panic(
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6),
    ) {
        let folder = copy();
        let metrics = folder.path().join("metrics.csv");
        fs::copy(finished().join("run/metrics.csv"), &metrics).unwrap();
        for path in [&metrics, &folder.path().join("config.json")] {
            let mut bytes = fs::read(path).unwrap();
            let n = bytes.len();
            changes.iter().for_each(|(at, byte)| bytes[at % n] = *byte);
            fs::write(path, bytes).unwrap();
        }
        load(folder.path());
        let (rows, largest) = largest_in(|| read_rows(&metrics));
        assert!(largest < MAX_MEMORY, "{largest} bytes");
        assert!(matches!(rows, Ok(_) | Err(TrainError::OtherColumns { .. })));
    }
}

#[test]
fn many_rows_are_read_in_a_second_or_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.csv");
    let own = fs::read_to_string(finished().join("run/metrics.csv")).unwrap();
    let mut lines = own.lines();
    let header = lines.next().unwrap();
    let row = lines.next().unwrap();
    fs::write(
        &path,
        format!("{header}\n{}", format!("{row}\n").repeat(300_000)),
    )
    .unwrap();
    let started = Instant::now();
    assert_eq!(read_rows(&path).unwrap().len(), 300_000);
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
}
