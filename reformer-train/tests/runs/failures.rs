//! Failures are reported, and only what depends on them is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::module::{Module, Param};
use burn::record::Recorder;
use burn::train::metric::MetricDefinition;
use burn::train::renderer::{
    EvaluationName, EvaluationProgress, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining, ProgressType, TrainingProgress,
};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use reformer_core::Precision;
use reformer_core::model::{ReformerConfig, ReformerLmConfig};
use reformer_train::metrics::Quantity;
use reformer_train::optimizer::SgdConfig;
use reformer_train::record::AtomicRecorder;
use reformer_train::run::Checkpoints;
use reformer_train::screen::Screen;
use reformer_train::task::Task;
use reformer_train::{
    DataConfig, Ending, Model, NonFiniteLoss, OptimizerConfig, Run, ScheduleConfig, TrainConfig,
    TrainError, TrainOptions,
};

type B = Autodiff<Flex>;
const WINDOW: usize = 40;

fn config(rate: f64) -> TrainConfig {
    let model = ReformerConfig::new(256, 16, 1).with_n_heads(2);
    TrainConfig::new(ReformerLmConfig::new(model).into(), DataConfig::Sample)
        .with_window_length(WINDOW)
        .with_batch_size(2)
        .with_steps(12)
        .with_steps_per_epoch(6)
        .with_eval_windows(Some(2))
        .with_optimizer(OptimizerConfig::Sgd(SgdConfig::new().with_momentum(0.0)))
        .with_schedule(ScheduleConfig::Constant {
            rate,
            warmup_steps: 0,
        })
}

#[test]
fn loss_that_is_not_finite_ends_the_run_with_step_cause_and_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(1e30).with_checkpoint_every(Some(1));
    let run = Run::create(config, folder.path().join("run")).unwrap();
    let result = run.train::<B, _>(&Default::default(), 0, TrainOptions::silent());
    let error = result.map(|_| ()).expect_err("the rate is far too high");
    let TrainError::Diverged { step, .. } = &error else {
        panic!("{error}");
    };
    // The first step is that of fresh weights, and the one that breaks them.
    assert_eq!(*step, 1);
    let message = error.to_string();
    for part in [
        "step 1 ",
        "set max_gradient_norm",
        "1.00e30",
        "no good checkpoint",
    ] {
        assert!(message.contains(part), "{part:?} is missing: {message}");
    }
    let page = fs::read_to_string(run.folder().join("report.html")).unwrap();
    assert!(page.contains(">stopped<"));
}

/// In half precision, gradients that are not finite are skipped in silence while their scale is too large. A loss
/// that is not finite shows that the weights are useless.
#[test]
fn loss_that_is_not_finite_ends_a_run_in_half_precision_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(1e30).with_steps(24);
    config.model.reformer_mut().precision = Precision::F16;
    let run = Run::create(config, folder.path().join("run")).unwrap();
    let result = run.train::<B, _>(&Default::default(), 0, TrainOptions::silent());
    let error = result.map(|_| ()).expect_err("the rate is far too high");
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
}

/// A run whose model gives `X` a probability of 0 after 6 steps, and is to do 30. `texts` puts some into the text.
fn run_without_x(folder: &Path, config: TrainConfig, texts: impl FnOnce(&mut [u8])) -> Run {
    let path = folder.join("text");
    let mut text = vec![b'a'; 4000];
    texts(&mut text);
    fs::write(&path, text).unwrap();
    let mut config = config;
    config.data = DataConfig::File(path);
    let run = Run::create(config.with_steps(6), folder.join("run")).unwrap();
    run.train::<B, _>(&Default::default(), 0, TrainOptions::silent())
        .expect("all losses are finite yet");

    let checkpoints = Checkpoints::of_run(run.folder());
    let device = Default::default();
    let task = Task::new(run.config().model.init::<B>(&device), 0);
    let record = AtomicRecorder::load_named::<B, _>(&checkpoints.model(6), &device).unwrap();
    let mut task = task.load_record(record);
    let Model::Lm(model) = &mut task.model else {
        panic!("it is a language model");
    };
    let bias = model.output.bias.take().expect("by default there is one");
    let mut values: Vec<f32> = bias.val().into_data().to_vec().unwrap();
    values[usize::from(b'X')] = f32::NEG_INFINITY;
    let values = burn::tensor::Tensor::from_floats(values.as_slice(), &device).require_grad();
    model.output.bias = Some(Param::initialized(bias.id, values));
    let record = task.into_record();
    Recorder::<B>::record(&AtomicRecorder::default(), record, checkpoints.model(6)).unwrap();
    let json = serde_json::to_string(&run.config().clone().with_steps(30)).unwrap();
    fs::write(run.folder().join("config.json"), json).unwrap();
    Run::resume(run.folder()).unwrap()
}

/// There are some in what the run is evaluated on, and none in what it trains on.
#[test]
fn evaluation_that_is_not_finite_ends_the_run_also_when_it_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(0.1)
        .with_steps_per_epoch(6)
        .with_checkpoint_every(Some(1));
    let run = run_without_x(folder.path(), config, |text| {
        let validation = text[3610..3790].iter_mut();
        validation.step_by(8).for_each(|byte| *byte = b'X');
    });
    let mut step = 6;
    for _ in 0..2 {
        let result = run.train::<B, _>(&Default::default(), step, TrainOptions::silent());
        let error = result.map(|_| ()).expect_err("X cannot be predicted");
        assert!(
            matches!(error, TrainError::DivergedEvaluation { step: 12, .. }),
            "{error}"
        );
        let start = "the loss of the evaluation after step 12 is ";
        assert!(error.to_string().starts_with(start), "{error}");
        // The weights of the checkpoint are no better when the run is resumed.
        step = run.resume_point::<B>(&Default::default()).unwrap().step;
        assert_eq!(step, 12);
    }
    let rows = run.rows().unwrap();
    let evaluated = rows.iter().filter(|row| row.split == "valid");
    assert_eq!(evaluated.map(|row| row.step).collect::<Vec<_>>(), [6, 12]);
}

/// Steps that were skipped.
static SKIPPED: AtomicUsize = AtomicUsize::new(0);

fn count_skipped(error: &TrainError) {
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
    SKIPPED.fetch_add(1, Ordering::Relaxed);
}

/// A model that gives `X` a probability of 0, and a text in which it is rare: the loss of some
/// steps is infinite.
#[test]
fn steps_whose_loss_is_not_finite_are_skipped_if_the_run_allows_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(0.1).with_bad_loss(NonFiniteLoss::Skip(8));
    // None in the part that is for validation.
    let run = run_without_x(folder.path(), config, |text| {
        let training = text[..3500].iter_mut();
        training
            .skip(130)
            .step_by(260)
            .for_each(|byte| *byte = b'X');
    });
    let device = Default::default();
    let mut options = TrainOptions::silent();
    options.warn = count_skipped;
    let outcome = run
        .train::<B, _>(&device, 6, options)
        .expect("some losses are finite");
    assert_eq!(outcome.ending, Ending::Finished);
    let n_skipped = SKIPPED.load(Ordering::Relaxed);
    assert!((3..24).contains(&n_skipped), "{n_skipped} of 24");
    assert!(outcome.valid.iter().all(|row| row.loss().is_finite()));
}

/// What the renderer damages in the folder of the run after its first step.
static DAMAGE: Mutex<Option<(PathBuf, &str)>> = Mutex::new(None);
static WARNINGS: Mutex<Vec<String>> = Mutex::new(vec![]);

/// Puts files where folders are: not even an administrator can write there then.
struct Vandal;

impl MetricsRendererTraining for Vandal {
    fn update_train(&mut self, _state: MetricState) {}
    fn update_valid(&mut self, _state: MetricState) {}
    fn render_train(&mut self, _item: TrainingProgress, _indicators: Vec<ProgressType>) {
        let damage = DAMAGE.lock().ok().and_then(|mut folder| folder.take());
        match damage {
            Some((folder, "checkpoint/")) => {
                fs::remove_dir_all(folder.join("checkpoint")).expect("it is there");
                fs::write(folder.join("checkpoint"), "").expect("it can be written");
            }
            Some((folder, _)) => {
                fs::create_dir(folder.join("report.html.partial")).expect("it is not there");
            }
            None => {}
        }
    }
    fn render_valid(&mut self, _item: TrainingProgress, _indicators: Vec<ProgressType>) {}
}

impl MetricsRendererEvaluation for Vandal {
    fn update_test(&mut self, _name: EvaluationName, _state: MetricState) {}
    fn render_test(&mut self, _item: EvaluationProgress, _indicators: Vec<ProgressType>) {}
}

impl MetricsRenderer for Vandal {
    fn manual_close(&mut self) {}
    fn register_metric(&mut self, _definition: MetricDefinition) {}
}

#[test]
fn folder_that_cannot_be_written_is_reported_and_training_continues() {
    // One at a time: of several failures at once only the first is reported.
    for file in ["checkpoint/", "report.html"] {
        let folder = tempfile::tempdir().unwrap();
        let run = Run::create(config(0.1), folder.path().join("run")).unwrap();
        *DAMAGE.lock().unwrap() = Some((run.folder().to_owned(), file));
        let mut options = TrainOptions::new(Screen::Renderer(Vandal));
        options.warn = |error| WARNINGS.lock().unwrap().push(error.to_string());
        let outcome = run.train::<B, _>(&Default::default(), 0, options);
        assert_eq!(
            outcome.expect("training continues").ending,
            Ending::Finished
        );
        let warnings = std::mem::take(&mut *WARNINGS.lock().unwrap());
        let is_named = |line: &String| line.contains(file) && line.contains("cannot be written");
        assert!(
            warnings.iter().any(is_named),
            "{file} is missing: {warnings:?}"
        );
        assert!(run.folder().join("model.mpk").is_file());
        let rows = run.rows().unwrap();
        assert!(rows.iter().all(|row| row.get(Quantity::Loss).is_some()));
        assert_eq!(rows.last().unwrap().step, 12);
    }
}
