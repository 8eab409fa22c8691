//! A run that is stopped and resumed ends like one that is not.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Mutex;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use reformer_core::Precision;
use reformer_core::attention::{LocalConfig, LshConfig, Window};
use reformer_core::model::{ReformerConfig, ReformerLmConfig};
use reformer_core::reversible::Mode;
use reformer_train::metrics::Row;
use reformer_train::optimizer::{AdafactorConfig, AdamConfig, SgdConfig};
use reformer_train::run::Checkpoints;
use reformer_train::{
    DataConfig, Ending, OptimizerConfig, ResumeOptions, Run, ScheduleConfig, TrainConfig,
    TrainError, TrainOptions, load_model,
};

pub(super) type B = Autodiff<Flex>;

/// Initial weights come from the backend's one generator, so no two runs may start at once.
static SEEDED: Mutex<()> = Mutex::new(());

/// Everything that draws random numbers: dropout, hashing beyond the exact length, shuffling.
pub(super) fn config(mode: Mode, optimizer: OptimizerConfig) -> TrainConfig {
    let model = ReformerConfig::new(256, 16, 2)
        .with_n_heads(2)
        .with_local(LocalConfig::new().with_chunk_length(8))
        .with_lsh(
            LshConfig::new()
                .with_chunk_length(8)
                .with_window(Window::Bucket { len: 8 }),
        )
        .with_dropout(0.1)
        .with_attention_dropout(0.1)
        .with_mode(mode);
    TrainConfig::new(ReformerLmConfig::new(model).into(), DataConfig::Sample)
        .with_window_length(40)
        .with_batch_size(3)
        .with_steps(8)
        .with_steps_per_epoch(3)
        .with_eval_windows(Some(4))
        .with_schedule(ScheduleConfig::Linear {
            rate: 1e-3,
            warmup_steps: 4,
            final_share: 0.1,
        })
        .with_max_gradient_norm(Some(1.0))
        .with_optimizer(optimizer)
}

pub(super) fn adam() -> OptimizerConfig {
    OptimizerConfig::Adam(AdamConfig::new())
}

fn sgd() -> OptimizerConfig {
    OptimizerConfig::Sgd(SgdConfig::new().with_nesterov(true))
}

fn adafactor() -> OptimizerConfig {
    OptimizerConfig::Adafactor(AdafactorConfig::new().with_beta_1(Some(0.9)))
}

/// Trains from a step to the end.
pub(super) fn train(run: &Run, step: usize) -> (Vec<TensorData>, Vec<Row>) {
    let _one_at_a_time = SEEDED.lock();
    let outcome = run
        .train::<B, _>(&Default::default(), step, TrainOptions::silent())
        .expect("nothing keeps it from training");
    assert_eq!(outcome.ending, Ending::Finished);
    (parameters(&outcome.model), outcome.valid)
}

struct Collect(Vec<TensorData>);

impl<B: Backend> ModuleVisitor<B> for Collect {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.0.push(param.val().into_data());
    }
}

pub(super) fn parameters<B: Backend>(model: &impl Module<B>) -> Vec<TensorData> {
    let mut collect = Collect(vec![]);
    model.visit(&mut collect);
    collect.0
}

pub(super) fn assert_equal(resumed: &[TensorData], straight: &[TensorData]) {
    assert_eq!(resumed.len(), straight.len());
    for (resumed, straight) in resumed.iter().zip(straight) {
        resumed.assert_eq(straight, true);
    }
}

/// Brings a finished run into the state after a step's checkpoint.
pub(super) fn rewind(run: &Run, step: usize) {
    let newer = Checkpoints::of_run(run.folder()).complete().into_iter();
    for newer in newer.filter(|newer| *newer > step) {
        for part in ["model", "optim", "scheduler"] {
            let file = format!("checkpoint/{part}-{newer}.mpk");
            fs::remove_file(run.folder().join(file)).expect("it is complete");
        }
    }
    fs::remove_file(run.folder().join("model.mpk")).expect("it is finished");
}

pub(super) fn losses(rows: &[Row]) -> Vec<f64> {
    rows.iter().map(Row::loss).collect()
}

#[test]
fn resumed_run_ends_with_the_same_weights() {
    for (mode, optimizer, precision) in [
        (Mode::Reversible, adam(), Precision::Full),
        (Mode::Reversible, adam(), Precision::F16),
        (
            Mode::Exact { fraction_bits: 16 },
            adafactor(),
            Precision::Full,
        ),
        (Mode::Plain, sgd(), Precision::Full),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let mut config = config(mode, optimizer)
            .with_checkpoint_every(Some(5))
            .with_accumulate(2);
        config.model.reformer_mut().precision = precision;
        let run = Run::create(config.clone(), &path).unwrap();
        let (straight, valid) = train(&run, 0);
        // The last, the one in the middle of an epoch, and those of evaluations that were the best.
        let complete = Checkpoints::of_run(&path).complete();
        assert_eq!(complete[0], 8);
        assert!(complete.contains(&5));
        assert_eq!(
            valid.iter().map(|row| row.step).collect::<Vec<_>>(),
            [3, 6, 8]
        );

        rewind(&run, 5);
        let run = Run::resume(&path).unwrap();
        assert_eq!(*run.config(), config);
        let point = run.resume_point::<B>(&Default::default()).unwrap();
        assert_eq!((point.step, point.damaged.len()), (5, 0));
        let (resumed, valid_again) = train(&run, point.step);
        assert_equal(&resumed, &straight);
        assert_eq!(losses(&valid_again), losses(&valid));

        let (loaded, _) = load_model::<Flex>(&path, &Default::default()).unwrap();
        assert_equal(&parameters(&loaded), &straight);
    }
}

#[test]
fn run_stopped_between_an_epoch_and_its_evaluation_makes_up_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    // After steps 3, 6 and 8 comes an evaluation, and after 6 a checkpoint first.
    let config = config(Mode::Reversible, adam()).with_checkpoint_every(Some(2));
    let run = Run::create(config, &path).unwrap();
    let (straight, valid) = train(&run, 0);
    for step in [6, 8] {
        let log = fs::read_to_string(path.join("metrics.csv")).unwrap();
        let is_kept =
            |line: &&str| !line.starts_with(&format!("{step},")) || line.contains("train");
        let kept: String = log
            .lines()
            .filter(is_kept)
            .map(|line| format!("{line}\n"))
            .collect();
        assert!(kept.len() < log.len());
        fs::write(path.join("metrics.csv"), kept).unwrap();
        fs::remove_file(path.join("model.mpk")).unwrap();
        let (resumed, valid_again) = train(&Run::resume(&path).unwrap(), step);
        assert_equal(&resumed, &straight);
        assert_eq!(losses(&valid_again), losses(&valid));
    }
}

#[test]
fn run_killed_before_its_first_checkpoint_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let run = Run::create(config(Mode::Reversible, adam()), &path).unwrap();
    let (straight, _) = train(&run, 0);
    // It has a folder for checkpoints, and rows of a few steps.
    rewind(&run, 0);
    let log = fs::read_to_string(path.join("metrics.csv")).unwrap();
    let first: String = log
        .lines()
        .take(3)
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(path.join("metrics.csv"), first).unwrap();
    let run = Run::resume(&path).unwrap();
    let point = run.resume_point::<B>(&Default::default()).unwrap();
    assert_eq!(point.step, 0);
    assert_equal(&train(&run, 0).0, &straight);
}

#[test]
fn damaged_checkpoints_are_passed_over_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let run = Run::create(config(Mode::Reversible, adam()), &path).unwrap();
    train(&run, 0);
    let complete = Checkpoints::of_run(&path).complete();
    assert!(complete.len() >= 2 && complete[0] == 8, "{complete:?}");
    truncate(&path.join("checkpoint/optim-8.mpk"));
    let point = run.resume_point::<B>(&Default::default()).unwrap();
    assert_eq!(point.step, complete[1]);
    assert!(point.damaged[0].to_string().contains("optim-8.mpk"));
    for step in &complete[1..] {
        truncate(&path.join(format!("checkpoint/model-{step}.mpk")));
    }
    let error = run.resume_point::<B>(&Default::default()).unwrap_err();
    assert!(matches!(&error, TrainError::Damaged { path, .. } if path.ends_with("optim-8.mpk")));
}

fn truncate(path: &Path) {
    let bytes = fs::read(path).expect("the file is there");
    fs::write(path, &bytes[..bytes.len() / 2]).expect("the file can be written");
}

#[test]
fn state_of_another_optimizer_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let run = Run::create(config(Mode::Reversible, adam()), &path).unwrap();
    train(&run, 0);
    let other = serde_json::to_string(&config(Mode::Reversible, sgd())).unwrap();
    fs::write(path.join("config.json"), other).unwrap();
    let run = Run::resume(&path).unwrap();
    let error = run.resume_point::<B>(&Default::default()).unwrap_err();
    assert!(
        error.to_string().contains("a state of Adam, not of Sgd"),
        "{error}"
    );
}

#[test]
fn existing_folder_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(Mode::Reversible, adam());
    let notes = folder.path().join("notes.txt");
    fs::write(&notes, "not a run").unwrap();
    for path in [folder.path(), &notes] {
        let error = Run::create(config.clone(), path).unwrap_err();
        assert!(matches!(error, TrainError::FolderTaken { .. }), "{error}");
    }
    let error = Run::create(config.clone(), notes.join("run")).unwrap_err();
    assert!(matches!(error, TrainError::Write { .. }), "{error}");
    assert_eq!(fs::read_to_string(&notes).unwrap(), "not a run");
    let error = Run::resume(&notes).unwrap_err();
    let kind = ErrorKind::NotADirectory;
    assert!(
        matches!(error, TrainError::NoRun { kind: found, .. } if found == kind),
        "{error:?}"
    );
    let path = folder.path().join("run");
    // A folder that was made by hand, or by a program that was killed.
    fs::create_dir(&path).unwrap();
    Run::create(config.clone(), &path).unwrap();
    let error = Run::create(config.clone(), &path).unwrap_err();
    assert!(matches!(error, TrainError::RunExists { .. }), "{error}");
    Run::resume(&path).unwrap();
    let path = folder.path().join("no/such/run");
    let error = Run::create(config.with_batch_size(0), &path).unwrap_err();
    assert!(matches!(error, TrainError::Config(_)), "{error}");
    assert!(!folder.path().join("no").exists());
    let error = Run::resume(&path).unwrap_err();
    let kind = ErrorKind::NotFound;
    assert!(
        matches!(error, TrainError::NoRun { kind: found, .. } if found == kind),
        "{error:?}"
    );
}

/// Number of records in the newest event file of TensorBoard in a run.
fn n_events(run: &Path) -> usize {
    let files = fs::read_dir(run).expect("a folder");
    let names = files.map(|file| file.expect("an entry").path());
    let events = names.filter(|path| path.to_string_lossy().contains(".tfevents."));
    let newest = events.max().expect("it was asked for");
    let bytes = fs::read(newest).expect("a file");
    let mut rest = &bytes[..];
    let mut n = 0;
    while let Some((length, others)) = rest.split_first_chunk::<8>() {
        // The event between its checksums.
        rest = &others[4 + u64::from_le_bytes(*length) as usize + 4..];
        n += 1;
    }
    n
}

#[test]
fn events_of_tensorboard_are_the_rows_of_the_metrics_also_when_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let run = Run::create(config(Mode::Reversible, adam()), &path).unwrap();
    let train = |run: &Run, step: usize, tensorboard: bool| {
        let _one_at_a_time = SEEDED.lock();
        let options = TrainOptions::silent().with_tensorboard(tensorboard);
        run.train::<B, _>(&Default::default(), step, options)
            .unwrap();
        // After the version and the start.
        assert_eq!(n_events(run.folder()), 2 + run.rows().unwrap().len());
    };
    train(&run, 0, true);
    let n_before = n_events(&path);
    let longer = ResumeOptions::new().with_steps(Some(12));
    let run = Run::resume_with(&path, &longer).unwrap();
    let point = run.resume_point::<B>(&Default::default()).unwrap();
    train(&run, point.step, false);
    assert!(n_events(&path) > n_before);
}
