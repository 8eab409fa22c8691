//! Runs that are finished, and that are extended.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use burn_flex::Flex;
use reformer_core::reversible::Mode;
use reformer_train::{
    Ending, ResumeOptions, Run, RunOutcome, ScheduleConfig, TrainConfig, TrainError, TrainOptions,
    load_model,
};

use crate::resume::{B, adam, config, rewind, train};

/// A run whose loss does not change.
fn stagnating() -> TrainConfig {
    config(Mode::Reversible, adam())
        .with_steps_per_epoch(2)
        .with_patience(Some(1))
        .with_weight_decay(vec![])
        .with_schedule(ScheduleConfig::Constant {
            rate: 1e-30,
            warmup_steps: 0,
        })
}

/// Resumes a run and trains it, as a program does.
pub(super) fn resume(path: &Path, options: &ResumeOptions) -> Result<RunOutcome<Flex>, TrainError> {
    let run = Run::resume_with(path, options)?;
    let device = Default::default();
    let point = run.resume_point::<B>(&device)?;
    run.train::<B, _>(&device, point.step, TrainOptions::silent())
}

/// All files of a folder.
pub(super) fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => drop(all.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
    all
}

fn steps_of(outcome: &RunOutcome<Flex>) -> Vec<usize> {
    outcome.valid.iter().map(|row| row.step).collect()
}

#[test]
fn byte_order_marks_of_editors_are_no_part_of_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    train(
        &Run::create(config(Mode::Reversible, adam()), &path).unwrap(),
        0,
    );
    let steps = Run::resume(&path).unwrap().config().steps;
    for name in ["config.json", "run.json"] {
        let file = path.join(name);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("\u{feff}{text}")).unwrap();
    }
    let more = ResumeOptions::new().with_steps(Some(steps + 1));
    let outcome = resume(&path, &more).unwrap();
    assert_eq!(steps_of(&outcome).last(), Some(&(steps + 1)));
    load_model::<Flex>(&path, &Default::default()).unwrap();
}

#[test]
fn run_that_ended_early_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    Run::create(stagnating(), &path).unwrap();
    let outcome = resume(&path, &ResumeOptions::new()).unwrap();
    assert_eq!(outcome.ending, Ending::Early);
    assert_eq!(steps_of(&outcome), [2, 4]);
    let before = files(&path);
    let outcome = resume(&path, &ResumeOptions::new()).unwrap();
    assert_eq!(outcome.ending, Ending::Early);
    assert_eq!(
        (steps_of(&outcome), outcome.best.unwrap().step),
        (vec![2, 4], 2)
    );
    assert!(files(&path) == before, "a file has changed");

    // Killed before its weights were written, it writes the same.
    fs::remove_file(path.join("model.mpk")).unwrap();
    let outcome = resume(&path, &ResumeOptions::new()).unwrap();
    assert_eq!(outcome.ending, Ending::Early);
    assert!(fs::read(path.join("model.mpk")).unwrap() == before[&path.join("model.mpk")]);

    // More steps are of no use without more patience.
    let more = ResumeOptions::new().with_steps(Some(20));
    let error = resume(&path, &more).unwrap_err().to_string();
    assert!(
        error.starts_with("`steps` is 20") && error.ends_with("raise patience too"),
        "{error}"
    );
    let outcome = resume(&path, &more.with_patience(Some(3))).unwrap();
    assert_eq!(outcome.ending, Ending::Early);
    assert_eq!(steps_of(&outcome), [2, 4, 6, 8]);
    assert_eq!(Run::resume(&path).unwrap().config().patience, Some(3));
}

#[test]
fn finished_run_stays_as_it_is_until_it_is_extended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    train(
        &Run::create(config(Mode::Reversible, adam()), &path).unwrap(),
        0,
    );
    let before = files(&path);
    assert_eq!(
        resume(&path, &ResumeOptions::new()).unwrap().ending,
        Ending::Finished
    );
    assert!(files(&path) == before, "a file has changed");

    let to = |steps| ResumeOptions::new().with_steps(Some(steps));
    let run = Run::resume_with(&path, &to(12)).unwrap();
    let said = run.extension().unwrap().to_string();
    assert!(
        said.starts_with("12 steps instead of 8: from step 9 on"),
        "{said}"
    );
    assert!(
        files(&path) == before,
        "nothing changes before it is trained"
    );
    let outcome = resume(&path, &to(12)).unwrap();
    assert_eq!(outcome.ending, Ending::Finished);
    assert_eq!(steps_of(&outcome), [3, 6, 8, 9, 12]);
    assert!(fs::read(path.join("model.mpk")).unwrap() != before[&path.join("model.mpk")]);
    let run = Run::resume(&path).unwrap();
    assert_eq!((run.config().steps, run.extension()), (12, None));
    let error = resume(&path, &to(10)).unwrap_err().to_string();
    assert!(error.contains("12 steps are done"), "{error}");
}

#[test]
fn finished_run_without_its_last_checkpoints_is_not_shortened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    train(
        &Run::create(config(Mode::Reversible, adam()), &path).unwrap(),
        0,
    );
    let to = |steps| ResumeOptions::new().with_steps(Some(steps));
    let remove = |step: usize| {
        for part in ["model", "optim", "scheduler"] {
            fs::remove_file(path.join(format!("checkpoint/{part}-{step}.mpk"))).unwrap();
        }
    };
    remove(8);
    let before = files(&path);
    let error = resume(&path, &to(7)).unwrap_err().to_string();
    assert!(
        error.starts_with("`steps` is 7, but 8 steps are done"),
        "{error}"
    );
    assert!(files(&path) == before, "a file has changed");
    assert_eq!(resume(&path, &to(8)).unwrap().ending, Ending::Finished);
    assert!(files(&path) == before, "a file has changed");
    // Its older checkpoint is enough to go on from.
    let outcome = resume(&path, &to(9)).unwrap();
    assert_eq!(steps_of(&outcome), [3, 6, 9]);
}

#[test]
fn finished_run_without_checkpoints_is_not_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    // Few steps: as many as a run may have that was killed before its first checkpoint.
    let config = config(Mode::Reversible, adam()).with_steps(6);
    train(&Run::create(config, &path).unwrap(), 0);
    fs::remove_dir_all(path.join("checkpoint")).unwrap();
    fs::create_dir(path.join("checkpoint")).unwrap();
    let more = ResumeOptions::new().with_steps(Some(9));
    let refused = || {
        let before = files(&path);
        let error = resume(&path, &more).unwrap_err();
        assert!(
            matches!(error, TrainError::NoCheckpoint { step: 6, .. }),
            "{error}"
        );
        assert!(files(&path) == before, "a file has changed");
    };
    refused();
    // Its final weights are still there.
    fs::remove_file(path.join("metrics.csv")).unwrap();
    refused();
}

#[test]
fn extended_run_that_was_killed_ends_like_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let more = ResumeOptions::new().with_steps(Some(14));
    let weights = ["straight", "killed"].map(|name| {
        let path = folder.path().join(name);
        let config = config(Mode::Reversible, adam())
            .with_checkpoint_every(Some(5))
            .with_keep_checkpoints(20);
        train(&Run::create(config, &path).unwrap(), 0);
        resume(&path, &more).unwrap();
        if name == "killed" {
            rewind(&Run::resume(&path).unwrap(), 10);
            resume(&path, &ResumeOptions::new()).unwrap();
        }
        fs::read(path.join("model.mpk")).unwrap()
    });
    assert!(weights[0] == weights[1]);
}

#[test]
fn equal_weights_are_equal_files() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| {
        let path = folder.path().join(name);
        train(
            &Run::create(config(Mode::Reversible, adam()), &path).unwrap(),
            0,
        );
        fs::read(path.join("model.mpk")).unwrap()
    });
    assert!(first == second);
}

#[test]
fn epochs_are_counted_through_a_resume() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let config = config(Mode::Reversible, adam()).with_checkpoint_every(Some(5));
    let (_, straight) = train(&Run::create(config, &path).unwrap(), 0);
    rewind(&Run::resume(&path).unwrap(), 5);
    resume(&path, &ResumeOptions::new()).unwrap();
    let rows = Run::resume(&path).unwrap().rows().unwrap();
    assert_eq!(rows.len(), 8 + straight.len());
    assert!(
        rows.iter().all(|row| row.epoch == row.step.div_ceil(3)),
        "{rows:?}"
    );
}

/// Warnings of a resumed run.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(vec![]);

#[test]
fn incomplete_rows_are_dropped_and_reported_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let config = config(Mode::Reversible, adam()).with_checkpoint_every(Some(5));
    train(&Run::create(config, &path).unwrap(), 0);
    rewind(&Run::resume(&path).unwrap(), 5);
    let metrics = path.join("metrics.csv");
    let rows = fs::read_to_string(&metrics).unwrap();
    let lines: Vec<&str> = rows.lines().collect();
    let half = &lines[2][..lines[2].len() / 2];
    fs::write(
        &metrics,
        format!("{}\n{}\n{half}{}\n", lines[0], lines[1], lines[3]),
    )
    .unwrap();
    let run = Run::resume(&path).unwrap();
    let mut options = TrainOptions::silent();
    options.warn = |error| WARNINGS.lock().unwrap().push(error.to_string());
    run.train::<B, _>(&Default::default(), 5, options).unwrap();
    let warnings = WARNINGS.lock().unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("line 3 of `"), "{warnings:?}");
    let steps: Vec<usize> = run.rows().unwrap().iter().map(|row| row.step).collect();
    assert_eq!(steps, [1, 6, 6, 7, 8, 8]);
}
