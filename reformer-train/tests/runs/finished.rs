//! Runs that are over, that are extended, and that must not go on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use burn::module::Module;
use burn::record::Recorder;
use burn_flex::Flex;
use reformer_core::reversible::Mode;
use reformer_train::record::AtomicRecorder;
use reformer_train::run::Checkpoints;
use reformer_train::task::Task;
use reformer_train::{
    DataConfig, Ending, Model, ResumeOptions, Run, RunOutcome, ScheduleConfig, TrainConfig,
    TrainError, TrainOptions, load_model,
};

use crate::resume::{B, adam, config, rewind, train};

/// A run whose loss stays what it is.
fn hopeless() -> TrainConfig {
    config(Mode::Reversible, adam())
        .with_steps_per_epoch(2)
        .with_patience(Some(1))
        .with_weight_decay(vec![])
        .with_schedule(ScheduleConfig::Constant {
            rate: 1e-30,
            warmup_steps: 0,
        })
}

/// Goes on with a run as a program does.
fn go_on(path: &Path, options: &ResumeOptions) -> Result<RunOutcome<Flex>, TrainError> {
    let run = Run::resume_with(path, options)?;
    let device = Default::default();
    let point = run.resume_point::<B>(&device)?;
    run.train::<B, _>(&device, point.step, TrainOptions::silent())
}

/// All files of a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
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
fn run_that_ended_early_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    Run::create(hopeless(), &path).unwrap();
    let outcome = go_on(&path, &ResumeOptions::new()).unwrap();
    assert_eq!(outcome.ending, Ending::Early);
    assert_eq!(steps_of(&outcome), [2, 4]);
    let before = files(&path);
    let outcome = go_on(&path, &ResumeOptions::new()).unwrap();
    assert_eq!(outcome.ending, Ending::Early);
    assert_eq!(
        (steps_of(&outcome), outcome.best.unwrap().step),
        (vec![2, 4], 2)
    );
    assert!(files(&path) == before, "a file has changed");

    // Killed before its weights were written, it writes the same.
    fs::remove_file(path.join("model.mpk")).unwrap();
    let outcome = go_on(&path, &ResumeOptions::new()).unwrap();
    assert_eq!(outcome.ending, Ending::Early);
    assert!(fs::read(path.join("model.mpk")).unwrap() == before[&path.join("model.mpk")]);

    // More steps are of no use without more patience.
    let more = ResumeOptions::new().with_steps(Some(20));
    let error = go_on(&path, &more).unwrap_err().to_string();
    assert!(
        error.starts_with("`steps` is 20") && error.ends_with("raise patience too"),
        "{error}"
    );
    let outcome = go_on(&path, &more.with_patience(Some(3))).unwrap();
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
        go_on(&path, &ResumeOptions::new()).unwrap().ending,
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
    assert!(files(&path) == before, "nothing changes before it goes on");
    let outcome = go_on(&path, &to(12)).unwrap();
    assert_eq!(outcome.ending, Ending::Finished);
    assert_eq!(steps_of(&outcome), [3, 6, 8, 9, 12]);
    assert!(fs::read(path.join("model.mpk")).unwrap() != before[&path.join("model.mpk")]);
    let run = Run::resume(&path).unwrap();
    assert_eq!((run.config().steps, run.extension()), (12, None));
    let error = go_on(&path, &to(10)).unwrap_err().to_string();
    assert!(error.contains("12 steps are done"), "{error}");
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
        go_on(&path, &more).unwrap();
        if name == "killed" {
            rewind(&Run::resume(&path).unwrap(), 10);
            go_on(&path, &ResumeOptions::new()).unwrap();
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
fn run_without_checkpoints_is_not_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    train(
        &Run::create(config(Mode::Reversible, adam()), &path).unwrap(),
        0,
    );
    let rows = fs::read(path.join("metrics.csv")).unwrap();
    fs::remove_dir_all(path.join("checkpoint")).unwrap();
    for has_folder in [false, true] {
        if has_folder {
            fs::create_dir(path.join("checkpoint")).unwrap();
        }
        let error = go_on(&path, &ResumeOptions::new()).unwrap_err();
        assert!(
            matches!(error, TrainError::NoCheckpoint { step: 8, .. }),
            "{error}"
        );
        assert_eq!(fs::read(path.join("metrics.csv")).unwrap(), rows);
    }
    fs::remove_file(path.join("metrics.csv")).unwrap();
    fs::remove_file(path.join("model.mpk")).unwrap();
    go_on(&path, &ResumeOptions::new()).unwrap();
}

#[test]
fn second_process_is_told_that_the_run_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let run = Run::create(config(Mode::Reversible, adam()), &path).unwrap();
    let lock = File::create(path.join("lock")).unwrap();
    lock.lock().unwrap();
    let error = run.resume_point::<B>(&Default::default()).unwrap_err();
    assert!(matches!(error, TrainError::Locked { .. }), "{error}");
    let result = run.train::<B, _>(&Default::default(), 0, TrainOptions::silent());
    let error = result.map(|_| ()).unwrap_err();
    assert!(matches!(error, TrainError::Locked { .. }), "{error}");
    drop(lock);
    run.resume_point::<B>(&Default::default()).unwrap();
}

#[test]
fn data_that_changed_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, text) = (folder.path().join("run"), folder.path().join("text"));
    let old = "To be or not to be. ".repeat(200);
    fs::write(&text, &old).unwrap();
    let mut config = config(Mode::Reversible, adam());
    config.data = DataConfig::File(text.clone());
    Run::create(config, &path).unwrap();
    Run::resume(&path).unwrap();
    for new in [old.replace("be. ", "bee "), old.clone() + "More."] {
        fs::write(&text, new).unwrap();
        let error = Run::resume(&path).unwrap_err();
        assert!(matches!(error, TrainError::DataChanged { .. }), "{error}");
    }
    fs::write(&text, &old).unwrap();
    Run::resume(&path).unwrap();
}

#[test]
fn weights_of_another_configuration_are_refused_and_nothing_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    train(
        &Run::create(config(Mode::Reversible, adam()), &path).unwrap(),
        0,
    );
    let own: serde_json::Value =
        serde_json::from_slice(&fs::read(path.join("config.json")).unwrap()).unwrap();
    for (setting, value) in [
        ("n_heads", serde_json::json!(4)),
        ("n_layers", serde_json::json!(3)),
        ("layers", serde_json::json!(["Full"])),
        ("d_model", serde_json::json!(32)),
        ("d_ff", serde_json::json!(48)),
        ("vocab_size", serde_json::json!(300)),
        ("norm_epsilon", serde_json::json!(1e-3)),
        ("position", serde_json::json!("Sinusoidal")),
        ("gated", serde_json::json!(true)),
    ] {
        let mut edited = own.clone();
        edited["model"]["reformer"][setting] = value;
        fs::write(path.join("config.json"), edited.to_string()).unwrap();
        let before = files(&path);
        let error = load_model::<Flex>(&path, &Default::default()).unwrap_err();
        assert!(
            matches!(error, TrainError::OtherWeights { .. }),
            "{setting}: {error}"
        );
        assert!(error.to_string().contains(setting), "{setting}: {error}");
        let error = go_on(&path, &ResumeOptions::new()).unwrap_err();
        assert!(
            matches!(error, TrainError::OtherWeights { .. }),
            "{setting}: {error}"
        );
        assert!(files(&path) == before, "{setting}: a file has changed");
    }
    // What weights do not depend on can change.
    let mut edited = own.clone();
    edited["model"]["loss_chunk_length"] = 7.into();
    edited["model"]["reformer"]["dropout"] = 0.0.into();
    fs::write(path.join("config.json"), edited.to_string()).unwrap();
    load_model::<Flex>(&path, &Default::default()).unwrap();
}

#[test]
fn parts_of_other_steps_and_runs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [path, other] = ["run", "other"].map(|name| folder.path().join(name));
    for (path, seed) in [(&path, 1), (&other, 2)] {
        let config = config(Mode::Reversible, adam()).with_seed(seed);
        train(&Run::create(config, path).unwrap(), 0);
    }
    let complete = Checkpoints::of_run(&path).complete();
    let point = |path: &Path| {
        let run = Run::resume(path).unwrap();
        run.resume_point::<B>(&Default::default()).unwrap()
    };
    let newest = path.join("checkpoint/optim-8.mpk");
    let own = fs::read(&newest).unwrap();
    let older = format!("optim-{}", complete[1]);
    fs::copy(path.join(format!("checkpoint/{older}.mpk")), &newest).unwrap();
    let resumed = point(&path);
    assert_eq!(resumed.step, complete[1]);
    let told = resumed.damaged[0].to_string();
    assert!(
        told.contains(&format!("it is `{older}` under another name")),
        "{told}"
    );
    fs::copy(other.join("checkpoint/optim-8.mpk"), &newest).unwrap();
    let told = point(&path).damaged[0].to_string();
    assert!(told.contains("belongs to another run"), "{told}");
    fs::write(&newest, own).unwrap();
    assert_eq!(point(&path).step, 8);
}

#[test]
fn epochs_are_counted_through_a_resume() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let config = config(Mode::Reversible, adam()).with_checkpoint_every(Some(5));
    let (_, straight) = train(&Run::create(config, &path).unwrap(), 0);
    rewind(&Run::resume(&path).unwrap(), 5);
    go_on(&path, &ResumeOptions::new()).unwrap();
    let rows = Run::resume(&path).unwrap().rows().unwrap();
    assert_eq!(rows.len(), 8 + straight.len());
    assert!(
        rows.iter().all(|row| row.epoch == row.step.div_ceil(3)),
        "{rows:?}"
    );
}

/// What was told of a run that goes on.
static TOLD: Mutex<Vec<String>> = Mutex::new(vec![]);

#[test]
fn half_rows_are_cut_out_and_told_once() {
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
    options.warn = |error| TOLD.lock().unwrap().push(error.to_string());
    run.train::<B, _>(&Default::default(), 5, options).unwrap();
    let told = TOLD.lock().unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("line 3 of `"), "{told:?}");
    let steps: Vec<usize> = run.rows().unwrap().iter().map(|row| row.step).collect();
    assert_eq!(steps, [1, 6, 6, 7, 8, 8]);
}

#[test]
fn rows_of_steps_that_the_run_does_not_have_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    train(
        &Run::create(config(Mode::Reversible, adam()), &path).unwrap(),
        0,
    );
    let metrics = path.join("metrics.csv");
    let own = fs::read_to_string(&metrics).unwrap();
    let last = own.lines().next_back().unwrap();
    let foreign = last.replacen("8,", "516,", 1);
    fs::write(&metrics, format!("{own}{foreign}\n")).unwrap();
    let before = files(&path);
    for is_finished in [true, false] {
        if !is_finished {
            fs::remove_file(path.join("model.mpk")).unwrap();
        }
        let error = go_on(&path, &ResumeOptions::new()).unwrap_err();
        let name = metrics.display();
        let message = format!("`{name}` has a row of step 516, but the run has 8 steps");
        assert!(error.to_string().starts_with(&message), "{error}");
        assert_eq!(fs::read(&metrics).unwrap(), before[&metrics]);
    }
    fs::write(&metrics, own).unwrap();
    let outcome = go_on(&path, &ResumeOptions::new()).unwrap();
    assert_eq!(outcome.ending, Ending::Finished);
}

#[test]
fn weights_that_are_no_numbers_are_blamed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    train(
        &Run::create(config(Mode::Reversible, adam()), &path).unwrap(),
        0,
    );
    let device = Default::default();
    let checkpoints = Checkpoints::of_run(&path);
    let config = Run::resume(&path).unwrap().config().clone();
    let task = Task::new(config.model.init::<B>(&device), 0);
    let record = AtomicRecorder::load_named::<B, _>(&checkpoints.model(8), &device).unwrap();
    let mut task = task.load_record(record);
    let Model::Lm(model) = &mut task.model else {
        panic!("it is a language model");
    };
    model.output.weight = model.output.weight.clone().map(|weight| weight * f32::NAN);
    let record = task.into_record();
    Recorder::<B>::record(&AtomicRecorder::default(), record, checkpoints.model(8)).unwrap();
    let error = go_on(&path, &ResumeOptions::new().with_steps(Some(9))).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("the weights after step 8 are not finite"),
        "{error}"
    );
}

#[test]
fn new_folder_is_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs/run");
    Run::create(config(Mode::Reversible, adam()), &path).unwrap();
    let names = |folder: &Path| -> Vec<PathBuf> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&path), ["config.json", "run.json"].map(PathBuf::from));
    assert_eq!(names(&folder.path().join("runs")), [PathBuf::from("run")]);
}
