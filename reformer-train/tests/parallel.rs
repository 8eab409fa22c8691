//! Several devices, and several processes, train as one does.

#![allow(clippy::unwrap_used)]

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::train::Interrupter;
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use reformer_core::attention::{ExactUpTo, LocalConfig, LshConfig, Window};
use reformer_core::model::{
    MaskingConfig, ReformerClassifierConfig, ReformerConfig, ReformerLmConfig,
};
use reformer_train::parallel::{Coordinator, Member, ParallelError, Patience};
use reformer_train::{
    Checkpoints, ClassFiles, ClassesConfig, DataConfig, Model, Run, TrainConfig, TrainError,
    TrainOptions,
};

type B = Autodiff<Flex>;

/// Where a process that this test starts finds the run, and where it leaves its weights.
const ADDRESS: &str = "REFORMER_TEST_ADDRESS";
const WEIGHTS: &str = "REFORMER_TEST_WEIGHTS";

const PATIENCE: Patience = Patience {
    coming: Duration::from_secs(60),
    silence: Duration::from_secs(30),
};

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

/// Losses of every step and evaluation, and the weights.
type Trained = (Vec<f64>, Vec<f32>);

fn train(run: &Run, n_devices: usize, coordinator: Option<Coordinator>) -> Trained {
    let devices = vec![Default::default(); n_devices];
    let step = run.resume_point::<B>(&devices[0]).unwrap().step;
    let mut options = TrainOptions::silent();
    options.coordinator = coordinator;
    let outcome = run.train_on::<B, _>(&devices, step, options).unwrap();
    let losses = run.rows().unwrap();
    let losses = losses.iter().map(|row| row.loss()).collect();
    (losses, weights(&outcome.model))
}

/// Not a test by itself: what the other process of a test does.
#[test]
#[ignore = "a part of other tests, which start it as a process"]
fn member_of_a_run() {
    let Ok(address) = env::var(ADDRESS) else {
        return;
    };
    let member = Member::join(&address, 1, PATIENCE).unwrap();
    let helped = member
        .train::<B>(&[Default::default()], &Interrupter::new(), |_, _| {})
        .unwrap();
    assert_eq!(helped.reason, "all steps are done");
    fs::write(env::var(WEIGHTS).unwrap(), bytes(&weights(&helped.model))).unwrap();
}

fn coordinator() -> (Coordinator, String) {
    let coordinator = Coordinator::listen("127.0.0.1:0", 2).unwrap();
    let address = format!("127.0.0.1:{}", coordinator.port().unwrap());
    (coordinator.with_patience(PATIENCE), address)
}

fn start_member(address: &str, weights: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "member_of_a_run", "--ignored"])
        .env(ADDRESS, address)
        .env(WEIGHTS, weights)
        .spawn()
        .expect("this test can be started again")
}

/// Trains with a second process, and asserts that both end with the same bits.
fn train_with_member(run: &Run) -> Trained {
    let path = run.folder().join("of-member");
    let (coordinator, address) = coordinator();
    let mut member = start_member(&address, &path);
    let trained = train(run, 1, Some(coordinator));
    assert!(member.wait().unwrap().success());
    assert!(
        fs::read(path).unwrap() == bytes(&trained.1),
        "other weights"
    );
    trained
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

#[test]
fn two_devices_and_two_processes_train_as_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let new = |name: &str| Run::create(config(), folder.path().join(name)).unwrap();
    let alone = train(&new("alone"), 1, None);
    assert_close(&train(&new("two-devices"), 2, None), &alone);
    assert_close(&train_with_member(&new("two-processes")), &alone);
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
        let folder = tempfile::tempdir().unwrap();
        let new = |name: &str| Run::create(config.clone(), folder.path().join(name)).unwrap();
        let alone = train(&new("alone"), 1, None);
        assert_close(&train_with_member(&new("two-processes")), &alone);
    }
}

#[test]
fn run_of_two_processes_is_resumed_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let run = Run::create(config().with_checkpoint_every(Some(4)), &path).unwrap();
    let straight = train_with_member(&run);
    for newer in Checkpoints::of_run(&path).complete() {
        for part in ["model", "optim", "scheduler"] {
            if newer > 4 {
                fs::remove_file(path.join(format!("checkpoint/{part}-{newer}.mpk"))).unwrap();
            }
        }
    }
    fs::remove_file(path.join("model.mpk")).unwrap();
    let run = Run::resume(&path).unwrap();
    let resumed = train_with_member(&run);
    assert_eq!(resumed.1, straight.1);
    assert_eq!(resumed.0, straight.0);
}

#[test]
fn devices_without_rows_and_nodes_that_do_not_come_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::create(config(), folder.path().join("run")).unwrap();
    let five = vec![Default::default(); 5];
    let error = run
        .train_on::<B, _>(&five, 0, TrainOptions::silent())
        .unwrap_err();
    assert!(
        error.to_string().starts_with("`batch_size` is 4"),
        "{error}"
    );

    let (coordinator, _) = coordinator();
    let mut options = TrainOptions::silent();
    options.coordinator = Some(coordinator.with_patience(Patience {
        coming: Duration::from_millis(100),
        ..PATIENCE
    }));
    let error = run
        .train_on::<B, _>(&[Default::default()], 0, options)
        .unwrap_err();
    let is_missing = matches!(&error, TrainError::Parallel(ParallelError::Missing { .. }));
    assert!(is_missing, "{error}");
}
