//! A run that is killed at any moment, as often as you like, ends like one that is not.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reformer_core::Precision;
use reformer_core::reversible::Mode;
use reformer_train::optimizer::AdafactorConfig;
use reformer_train::{OptimizerConfig, Run, TrainConfig, TrainOptions};

use crate::resume::{B, adam, config};

/// The run that this process is to train, and be killed at.
const RUN: &str = "RUN_TO_BE_KILLED";
/// How many kills there are in all; a thorough test takes 50 and more.
const KILLS: &str = "KILLS";
const DEFAULT_KILLS: usize = 12;

fn runs() -> [TrainConfig; 3] {
    let adafactor = OptimizerConfig::Adafactor(AdafactorConfig::new().with_beta_1(Some(0.9)));
    let variants = [
        (adafactor, Precision::Full),
        (adam(), Precision::Full),
        (adam(), Precision::F16),
    ];
    variants.map(|(optimizer, precision)| {
        let mut config = config(Mode::Reversible, optimizer)
            .with_accumulate(2)
            .with_patience(Some(3))
            .with_steps(60)
            .with_steps_per_epoch(4)
            .with_checkpoint_every(Some(3));
        config.model.reformer_mut().precision = precision;
        config
    })
}

/// Trains, in a process of its own.
#[test]
fn process_that_may_be_killed() {
    let Ok(path) = env::var(RUN) else { return };
    let device = Default::default();
    let run = Run::resume(path).unwrap();
    let point = run.resume_point::<B>(&device).unwrap();
    run.train::<B, _>(&device, point.step, TrainOptions::silent())
        .unwrap();
}

fn start(path: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "kill::process_that_may_be_killed", "--nocapture"])
        .env(RUN, path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for a process that must not fail by itself.
fn finish(child: Child) {
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

#[test]
fn killed_runs_end_with_the_same_weights() {
    let n_kills = env::var(KILLS)
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(DEFAULT_KILLS)
        .div_ceil(runs().len());
    let folder = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(16);
    for (number, config) in runs().into_iter().enumerate() {
        let straight = folder.path().join(format!("straight-{number}"));
        Run::create(config.clone(), &straight).unwrap();
        let started = Instant::now();
        finish(start(&straight));
        let whole = started.elapsed();
        let weights = fs::read(straight.join("model.mpk")).unwrap();

        let mut n_killed = 0;
        for round in 0.. {
            let path = folder.path().join(format!("killed-{number}-{round}"));
            Run::create(config.clone(), &path).unwrap();
            while n_killed < n_kills {
                let mut child = start(&path);
                thread::sleep(Duration::from_secs_f64(
                    whole.as_secs_f64() * random.random::<f64>(),
                ));
                if child.try_wait().unwrap().is_some() {
                    finish(child);
                    break;
                }
                child.kill().unwrap();
                child.wait().unwrap();
                n_killed += 1;
            }
            finish(start(&path));
            assert!(
                fs::read(path.join("model.mpk")).unwrap() == weights,
                "round {round}"
            );
            if n_killed >= n_kills {
                break;
            }
        }
    }
}
