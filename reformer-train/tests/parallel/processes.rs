//! What the processes of a test do, and how they are started.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::thread;
use std::time::Duration;

use reformer_train::Member;
use reformer_train::parallel::{self, Sharing};
use reformer_train::{Run, TrainOptions};
use serde::{Deserialize, Serialize};

use super::mpirun::mpirun;
use super::{B, Trained, bytes, losses, weights};

/// The variable that holds a test process's task.
const ORDER: &str = "REFORMER_TEST_ORDER";
/// Longer than any process needs, short enough to notice one that waits for ever.
pub(super) const TIMEOUT: Duration = Duration::from_secs(60);

/// The task of the processes of a test: train the run in a folder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) run: PathBuf,
    pub(super) sharing: Sharing,
    pub(super) timeout: Duration,
    /// What the last process does instead of writing a sample.
    pub(super) last: Last,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Last {
    Writes,
    Panics,
    Hangs,
}

impl Order {
    pub(super) fn of(run: &Run) -> Self {
        Self {
            run: run.folder().to_owned(),
            sharing: Sharing::default(),
            timeout: TIMEOUT,
            last: Last::Writes,
        }
    }

    pub(super) fn sharing(mut self, optimizer: bool, half_gradients: bool) -> Self {
        self.sharing = Sharing {
            optimizer,
            half_gradients,
        };
        self
    }
}

/// Not a test by itself: what the processes of a test do.
#[test]
#[ignore = "a part of other tests, which start it as processes"]
fn process_of_a_run() {
    let Ok(order) = env::var(ORDER) else {
        return;
    };
    let order: Order = serde_json::from_str(&order).unwrap();
    let group = parallel::join(order.timeout)
        .unwrap()
        .expect("mpirun started it");
    let device = Default::default();
    let mut options = TrainOptions::silent().with_samples(move |_| match order.last {
        Last::Writes => Some("a sample".to_owned()),
        Last::Panics => panic!("a panic of the test"),
        Last::Hangs => loop {
            thread::sleep(TIMEOUT);
        },
    });
    let trained = match group.is_first() {
        true => {
            let run = Run::resume(&order.run).unwrap();
            let step = run.resume_point::<B>(&device).unwrap().step;
            options.group = Some(group.clone());
            options.sharing = order.sharing;
            run.train_on::<B, _>(&[device], step, options)
                .map(|outcome| weights(&outcome.model))
        }
        false => {
            let member = Member::wait(&group).unwrap().expect("there is a run");
            member
                .train_on::<B>(&[device], options)
                .map(|outcome| weights(&outcome.model))
        }
    };
    match trained {
        Ok(weights) => {
            let path = order.run.join(format!("weights-{}", group.rank()));
            fs::write(path, bytes(&weights)).unwrap();
            parallel::leave();
        }
        Err(error) => {
            parallel::await_turn();
            eprintln!("error: {error}");
            parallel::abort(1);
        }
    }
}

pub(super) fn run_processes(n_processes: usize, order: &Order) -> Option<Output> {
    let mut command = mpirun()?;
    command
        .arg("-n")
        .arg(n_processes.to_string())
        .arg(env::current_exe().unwrap())
        .args([
            "--exact",
            "processes::process_of_a_run",
            "--ignored",
            "--nocapture",
        ])
        .env(ORDER, serde_json::to_string(order).unwrap());
    Some(command.output().unwrap())
}

/// Trains with `n_processes`, and asserts that all end with the same bits.
pub(super) fn together(n_processes: usize, order: &Order) -> Option<Trained> {
    let output = run_processes(n_processes, order)?;
    assert!(output.status.success(), "{output:?}");
    let of = |rank: usize| fs::read(order.run.join(format!("weights-{rank}"))).unwrap();
    for rank in 1..n_processes {
        assert!(of(rank) == of(0), "other weights in process {rank}");
    }
    let weights = of(0);
    let (weights, _) = weights.as_chunks::<4>();
    let weights = weights.iter().map(|bytes| f32::from_le_bytes(*bytes));
    let run = Run::resume(&order.run).unwrap();
    Some((losses(&run), weights.collect()))
}
