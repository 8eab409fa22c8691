//! Several devices, and several processes, train as one does.

#![allow(clippy::unwrap_used)]

mod mpirun;
mod processes;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use reformer_core::attention::{ExactUpTo, LocalConfig, LshConfig, Window};
use reformer_core::model::{
    MaskingConfig, ReformerClassifierConfig, ReformerConfig, ReformerLmConfig,
};
use reformer_train::data::{ClassFiles, ClassesConfig};
use reformer_train::run::Checkpoints;
use reformer_train::{DataConfig, Model, Run, TrainConfig, TrainOptions};

use processes::{Last, Order, TIMEOUT, run_processes, together};

type B = Autodiff<Flex>;

/// Without dropout, whose masks are other ones for each device.
fn config() -> TrainConfig {
    let lsh = LshConfig::new()
        .with_chunk_length(8)
        .with_window(Window::Bucket { len: 8 })
        .with_exact_up_to(ExactUpTo::Never);
    let model = ReformerConfig::new(256, 16, 2)
        .with_n_heads(2)
        .with_local(LocalConfig::new().with_chunk_length(8))
        .with_lsh(lsh);
    TrainConfig::new(ReformerLmConfig::new(model).into(), DataConfig::Sample)
        .with_window_length(40)
        .with_batch_size(4)
        .with_steps(6)
        .with_steps_per_epoch(3)
        .with_eval_windows(Some(4))
        .with_max_gradient_norm(Some(1.0))
}

struct Collect(Vec<f32>);

impl<B: Backend> ModuleVisitor<B> for Collect {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.0.extend(param.val().into_data().iter::<f32>());
    }
}

fn weights<B: Backend>(model: &Model<B>) -> Vec<f32> {
    let mut collect = Collect(vec![]);
    model.visit(&mut collect);
    collect.0
}

fn bytes(weights: &[f32]) -> Vec<u8> {
    weights
        .iter()
        .flat_map(|weight| weight.to_le_bytes())
        .collect()
}

/// Losses of every row of metrics, and the weights.
type Trained = (Vec<f64>, Vec<f32>);

fn train(run: &Run, n_devices: usize) -> Trained {
    let devices = vec![Default::default(); n_devices];
    let step = run.resume_point::<B>(&devices[0]).unwrap().step;
    let options = TrainOptions::silent();
    let outcome = run.train_on::<B, _>(&devices, step, options).unwrap();
    (losses(run), weights(&outcome.model))
}

fn alone(run: &Run) -> Trained {
    train(run, 1)
}

fn losses(run: &Run) -> Vec<f64> {
    run.rows().unwrap().iter().map(|row| row.loss()).collect()
}

fn assert_close((losses, weights): &Trained, (expected, expected_weights): &Trained) {
    assert_eq!(losses.len(), expected.len());
    for (found, expected) in losses.iter().zip(expected) {
        assert!(
            (found - expected).abs() < 1e-4,
            "loss {found}, not {expected}"
        );
    }
    // An optimizer makes large steps of small differences where a gradient is almost zero.
    let pairs = || weights.iter().zip(expected_weights);
    let difference: f32 = pairs().map(|(a, b)| (a - b).powi(2)).sum();
    let norm: f32 = expected_weights.iter().map(|weight| weight.powi(2)).sum();
    assert!(difference < 1e-6 * norm, "{difference:e} of {norm:e}");
}

struct Runs {
    folder: tempfile::TempDir,
    config: TrainConfig,
}

impl Runs {
    fn of(config: TrainConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, config }
    }

    fn create(&self, name: &str) -> Run {
        Run::create(self.config.clone(), self.folder.path().join(name)).unwrap()
    }
}

#[test]
fn two_devices_train_as_one_does() {
    let runs = Runs::of(config());
    let two = train(&runs.create("two"), 2);
    assert_close(&two, &alone(&runs.create("one")));
}

#[test]
fn processes_train_as_one_does_and_again_to_the_bit() {
    let runs = Runs::of(config());
    let expected = alone(&runs.create("alone"));
    for n in [2, 4] {
        let order = |name: &str| Order::of(&runs.create(&format!("{name}-{n}")));
        let Some(first) = together(n, &order("first")) else {
            return;
        };
        assert_close(&first, &expected);
        assert_eq!(together(n, &order("again")).unwrap(), first);
        // Who steps which parameter changes nothing.
        let shared = order("shared").sharing(true, false);
        assert_eq!(together(n, &shared).unwrap(), first);
        let half = together(n, &order("half").sharing(false, true)).unwrap();
        assert_ne!(half.1, first.1);
        for (half, whole) in half.0.iter().zip(&first.0) {
            assert!((half - whole).abs() < 1e-2, "loss {half}, not {whole}");
        }
        assert_eq!(
            together(n, &order("half-shared").sharing(true, true)).unwrap(),
            half
        );
    }
}

#[test]
fn labels_and_masks_are_those_of_one_process() {
    let reformer = ReformerConfig {
        vocab_size: 257,
        causal: false,
        ..config().model.reformer().clone()
    };
    let masked = TrainConfig {
        model: ReformerLmConfig::new(reformer.clone()).into(),
        ..config()
    }
    .with_masking(Some(MaskingConfig::new(257, 256)));
    let classes = TrainConfig {
        model: ReformerClassifierConfig::new(reformer, 3).into(),
        data: DataConfig::Classes(ClassesConfig::new(ClassFiles::Sample)),
        ..config()
    };
    for config in [masked, classes] {
        let runs = Runs::of(config);
        let Some(found) = together(2, &Order::of(&runs.create("two"))) else {
            return;
        };
        assert_close(&found, &alone(&runs.create("alone")));
    }
}

#[test]
fn evaluations_and_samples_are_shared_out() {
    // Fewer windows than processes: some have nothing to evaluate.
    let runs = Runs::of(config().with_eval_windows(Some(3)));
    let Some(found) = together(4, &Order::of(&runs.create("four"))) else {
        return;
    };
    assert_close(&found, &alone(&runs.create("alone")));
    let samples = fs::read_to_string(runs.folder.path().join("four/samples.jsonl")).unwrap();
    assert_eq!(samples.matches("a sample").count(), 2, "{samples}");
}

/// Goes back to a step, as a run that was killed after it.
fn rewind(run: &Path, step: usize) {
    for newer in Checkpoints::of_run(run).complete() {
        for part in ["model", "optim", "scheduler"] {
            if newer > step {
                fs::remove_file(run.join(format!("checkpoint/{part}-{newer}.mpk"))).unwrap();
            }
        }
    }
    fs::remove_file(run.join("model.mpk")).unwrap();
}

#[test]
fn run_is_resumed_to_the_bit_and_with_any_number_of_processes() {
    let runs = Runs::of(config().with_checkpoint_every(Some(4)));
    let run = runs.create("run");
    let order = || Order::of(&run);
    let Some(straight) = together(2, &order().sharing(true, false)) else {
        return;
    };
    // The state in a checkpoint is whole, however it was shared.
    for shares in [false, true] {
        rewind(run.folder(), 4);
        let resumed = together(2, &order().sharing(shares, false)).unwrap();
        assert_eq!(resumed, straight);
    }
    rewind(run.folder(), 4);
    assert_close(
        &together(4, &order().sharing(true, false)).unwrap(),
        &straight,
    );
    rewind(run.folder(), 4);
    assert_close(&alone(&Run::resume(run.folder()).unwrap()), &straight);
}

/// Asserts that the processes fail soon. Returns their standard error.
fn fails(order: &Order) -> Option<String> {
    let begin = Instant::now();
    let output = run_processes(2, order)?;
    assert!(begin.elapsed() < TIMEOUT / 2, "they waited for each other");
    assert!(!output.status.success(), "{output:?}");
    Some(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn panic_of_one_process_ends_all() {
    let runs = Runs::of(config());
    let order = Order {
        last: Last::Panics,
        ..Order::of(&runs.create("panics"))
    };
    let Some(stderr) = fails(&order) else {
        return;
    };
    assert!(stderr.contains("a panic of the test"), "{stderr}");
}

#[test]
fn process_that_hangs_ends_all_with_one_line() {
    let runs = Runs::of(config());
    let order = Order {
        last: Last::Hangs,
        timeout: Duration::from_secs(2),
        ..Order::of(&runs.create("hangs"))
    };
    let Some(stderr) = fails(&order) else {
        return;
    };
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.starts_with("error: process 0 waited 2 s for 1 others"),
        "{stderr}"
    );
}

#[test]
fn devices_without_rows_are_refused() {
    let run = Runs::of(config());
    let run = run.create("run");
    let five = vec![Default::default(); 5];
    let error = run
        .train_on::<B, _>(&five, 0, TrainOptions::silent())
        .unwrap_err();
    assert!(
        error.to_string().starts_with("`batch_size` is 4"),
        "{error}"
    );
}
