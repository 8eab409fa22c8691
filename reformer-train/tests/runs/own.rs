//! Runs on sequences that the program makes itself.

use reformer_core::reversible::Mode;
use reformer_datasets::{DuplicationConfig, Sequences};
use reformer_train::{DataConfig, OwnData, ResumeOptions, Run, TrainConfig};

use crate::resume::{adam, assert_equal, config, train};

/// The duplication task as if it were not one of the library's.
fn own(seed: u64) -> OwnData {
    let task = |seed| {
        let task = DuplicationConfig::new()
            .with_seq_length(40)
            .with_n_symbols(20);
        task.with_seed(seed).init().unwrap()
    };
    OwnData::new(task(seed), task(!seed))
}

fn on_own() -> TrainConfig {
    TrainConfig {
        data: DataConfig::Own("duplicated".to_owned()),
        ..config(Mode::Reversible, adam())
    }
}

#[test]
fn sequences_of_ones_own_are_those_of_the_same_task() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let run = Run::create_with_data(on_own(), at("own"), &own(7)).unwrap();
    let (weights, rows) = train(&run, 0);
    let report = std::fs::read_to_string(at("own/report.html")).unwrap();
    assert!(report.contains("duplicated"), "the page names the data");

    let task = TrainConfig {
        data: DataConfig::Duplication { n_symbols: 20 },
        ..on_own()
    };
    let seed = task.seed;
    let run = Run::create_with_data(on_own(), at("again"), &own(seed)).unwrap();
    let (own_weights, own_rows) = train(&run, 0);
    let (task_weights, task_rows) = train(&Run::create(task, at("task")).unwrap(), 0);
    assert_equal(&own_weights, &task_weights);
    assert_eq!(own_rows.len(), task_rows.len());
    assert_ne!(
        rows[0].loss(),
        own_rows[0].loss(),
        "other sequences, other losses"
    );
    assert_eq!(weights.len(), own_weights.len());
}

#[test]
fn data_that_is_missing_or_has_changed_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own");
    let refused = |run: Result<Run, _>| -> String {
        let error: reformer_train::TrainError = run.unwrap_err();
        error.to_string()
    };
    let alone = refused(Run::create(on_own(), &path));
    assert!(
        alone.contains("only the program that trains on them"),
        "{alone}"
    );
    let sample = config(Mode::Reversible, adam());
    let other = refused(Run::create_with_data(sample, &path, &own(1)));
    assert!(other.contains("DataConfig::Own"), "{other}");
    assert!(!path.exists(), "nothing is left behind");

    Run::create_with_data(on_own(), &path, &own(1)).unwrap();
    let options = ResumeOptions::new();
    Run::resume_with_data(&path, &options, &own(1)).unwrap();
    let changed = refused(Run::resume_with_data(&path, &options, &own(2)));
    assert!(
        changed.contains("has changed since the run began"),
        "{changed}"
    );
    let missing = refused(Run::resume(&path));
    assert!(
        missing.contains("only the program that trains on them"),
        "{missing}"
    );
}

#[test]
fn lengths_and_vocabularies_are_checked_like_those_of_any_data() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = on_own();
    config.window_length = 44;
    let error = Run::create_with_data(config, folder.path().join("x"), &own(1)).unwrap_err();
    assert!(error.to_string().contains("40 tokens"), "{error}");
    let mut config = on_own();
    config.model.reformer_mut().vocab_size = 20;
    let error = Run::create_with_data(config, folder.path().join("x"), &own(1)).unwrap_err();
    assert!(error.to_string().contains("vocab_size"), "{error}");
    assert_eq!(
        DuplicationConfig::new()
            .with_n_symbols(20)
            .with_seq_length(40)
            .init()
            .unwrap()
            .vocab_size(),
        21
    );
}
