//! Runs that cannot be resumed, and what is named as the cause.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::record::Recorder;
use burn_flex::Flex;
use reformer_core::reversible::Mode;
use reformer_train::record::AtomicRecorder;
use reformer_train::run::Checkpoints;
use reformer_train::task::Task;
use reformer_train::{
    DataConfig, Ending, Model, ResumeOptions, Run, TrainError, TrainOptions, load_model,
};

use crate::finished::{files, resume};
use crate::resume::{B, adam, config, train};

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
        let error = resume(&path, &ResumeOptions::new()).unwrap_err();
        assert!(
            matches!(error, TrainError::NoCheckpoint { step: 8, .. }),
            "{error}"
        );
        assert_eq!(fs::read(path.join("metrics.csv")).unwrap(), rows);
    }
    fs::remove_file(path.join("metrics.csv")).unwrap();
    fs::remove_file(path.join("model.mpk")).unwrap();
    resume(&path, &ResumeOptions::new()).unwrap();
}

#[test]
fn second_process_is_refused() {
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
fn weights_of_another_configuration_are_refused_and_no_file_changes() {
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
        let error = resume(&path, &ResumeOptions::new()).unwrap_err();
        assert!(
            matches!(error, TrainError::OtherWeights { .. }),
            "{setting}: {error}"
        );
        assert!(files(&path) == before, "{setting}: a file has changed");
    }
    // Settings on which weights do not depend can change.
    let mut edited = own.clone();
    edited["model"]["loss_chunk_length"] = 7.into();
    edited["model"]["reformer"]["dropout"] = 0.0.into();
    fs::write(path.join("config.json"), edited.to_string()).unwrap();
    load_model::<Flex>(&path, &Default::default()).unwrap();
}

#[test]
fn settings_that_do_not_exist_are_refused_and_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    train(
        &Run::create(config(Mode::Reversible, adam()), &path).unwrap(),
        0,
    );
    let file = path.join("config.json");
    let mut edited: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    edited["batch_sizes"] = 7.into();
    fs::write(&file, edited.to_string()).unwrap();
    let before = files(&path);
    let more = ResumeOptions::new().with_steps(Some(9));
    let resumed = resume(&path, &more).map(|_| ()).unwrap_err();
    let loaded = load_model::<Flex>(&path, &Default::default()).map(|_| ());
    for error in [resumed, loaded.unwrap_err()] {
        let TrainError::BadConfig { source, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(
            source.to_string(),
            "there is no setting `batch_sizes`: did you mean `batch_size`?"
        );
    }
    assert!(files(&path) == before, "a file has changed");
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
    let message = resumed.damaged[0].to_string();
    assert!(
        message.contains(&format!("it is `{older}` under another name")),
        "{message}"
    );
    fs::copy(other.join("checkpoint/optim-8.mpk"), &newest).unwrap();
    let message = point(&path).damaged[0].to_string();
    assert!(message.contains("belongs to another run"), "{message}");
    fs::write(&newest, own).unwrap();
    assert_eq!(point(&path).step, 8);
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
        let error = resume(&path, &ResumeOptions::new()).unwrap_err();
        let name = metrics.display();
        let message = format!("`{name}` has a row of step 516, but the run has 8 steps");
        assert!(error.to_string().starts_with(&message), "{error}");
        assert_eq!(fs::read(&metrics).unwrap(), before[&metrics]);
    }
    fs::write(&metrics, own).unwrap();
    let outcome = resume(&path, &ResumeOptions::new()).unwrap();
    assert_eq!(outcome.ending, Ending::Finished);
}

#[test]
fn weights_that_are_not_finite_are_named_as_the_cause() {
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
    let error = resume(&path, &ResumeOptions::new().with_steps(Some(9))).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("the weights after step 8 are not finite"),
        "{error}"
    );
}

/// A run in half precision skips steps, and its weights then stay the same from checkpoint to checkpoint.
#[test]
fn last_good_checkpoint_has_other_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let config = config(Mode::Reversible, adam()).with_keep_checkpoints(9);
    train(&Run::create(config.clone(), &path).unwrap(), 0);
    let device = Default::default();
    let checkpoints = Checkpoints::of_run(&path);
    assert_eq!(checkpoints.complete(), [8, 6, 3]);
    let task = Task::new(config.model.init::<B>(&device), 0);
    let record = AtomicRecorder::load_named::<B, _>(&checkpoints.model(6), &device).unwrap();
    let mut task = task.load_record(record);
    let Model::Lm(model) = &mut task.model else {
        panic!("it is a language model");
    };
    model.output.weight = model.output.weight.clone().map(|weight| weight * f32::NAN);
    for step in [6, 8] {
        let record = task.clone().into_record();
        Recorder::<B>::record(&AtomicRecorder::default(), record, checkpoints.model(step)).unwrap();
    }
    let error = resume(&path, &ResumeOptions::new().with_steps(Some(9))).unwrap_err();
    let error = error.to_string();
    assert!(
        error.ends_with("the last good checkpoint is that of step 3"),
        "{error}"
    );
}

#[test]
fn no_run_begins_among_the_checkpoints_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let create = |path: PathBuf| Run::create(config(Mode::Reversible, adam()), path).map(drop);
    create(path.clone()).unwrap();
    for is_there in [false, true] {
        if is_there {
            fs::create_dir_all(path.join("checkpoint/old")).unwrap();
        }
        let before = files(&path);
        for name in [
            "checkpoint",
            "checkpoint/new",
            "checkpoint/old/new",
            "./checkpoint/new",
        ] {
            let error = create(path.join(name)).unwrap_err();
            let TrainError::AmongCheckpoints { run, .. } = &error else {
                panic!("{name}: {error}");
            };
            assert_eq!(*run, path.canonicalize().unwrap());
            assert!(
                error.to_string().ends_with("choose another folder"),
                "{error}"
            );
        }
        assert!(files(&path) == before, "a file has changed");
    }
    #[cfg(unix)]
    {
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(path.join("checkpoint"), &link).unwrap();
        let error = create(link.join("new")).unwrap_err();
        assert!(
            matches!(error, TrainError::AmongCheckpoints { .. }),
            "{error}"
        );
    }
    // Elsewhere such a name means nothing, beside the configuration of some other program either.
    create(folder.path().join("checkpoint/new")).unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    create(folder.path().join("checkpoint/newer")).unwrap();
    // A damaged run is one as long as any of its parts tells so.
    let is_refused = || {
        let refused = create(path.join("checkpoint/new"));
        matches!(refused, Err(TrainError::AmongCheckpoints { .. }))
    };
    let config = fs::read(path.join("config.json")).unwrap();
    fs::write(path.join("config.json"), "{}").unwrap();
    assert!(is_refused(), "run.json is there");
    fs::remove_file(path.join("run.json")).unwrap();
    fs::write(path.join("config.json"), config).unwrap();
    assert!(is_refused(), "config.json is that of a run");
    fs::remove_file(path.join("config.json")).unwrap();
    for part in ["model", "optim", "scheduler"] {
        fs::write(path.join(format!("checkpoint/{part}-3.mpk")), "").unwrap();
    }
    assert!(is_refused(), "a checkpoint is there");
}

#[test]
fn new_folder_is_complete_or_absent() {
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
