//! A run on sequences of your own: checkpoints, a report and a resume to the bit, without a change to the library.
//!
//!     cargo run --release -p reformer-train --example own_data

use reformer_core::burn_autodiff::Autodiff;
use reformer_core::burn_flex::Flex;
use reformer_core::model::{ReformerConfig, ReformerLmConfig};
use reformer_datasets::{IGNORED, Sequences};
use reformer_train::{
    DataConfig, OwnData, ResumeOptions, Run, TrainConfig, TrainError, TrainOptions,
};

const LENGTH: usize = 32;
const N: usize = 4_000;

/// Two numbers and their sums by Fibonacci's rule, modulo 97, from a first pair on. The second number cannot be predicted.
#[derive(Debug)]
struct Fibonacci(u64);

impl Sequences for Fibonacci {
    fn seq_length(&self) -> usize {
        LENGTH
    }

    fn vocab_size(&self) -> usize {
        97
    }

    fn n_sequences(&self) -> Option<usize> {
        Some(N)
    }

    fn read(&self, number: u64, tokens: &mut [i32], targets: &mut [i32]) {
        let number = (self.0 + number) as i32;
        let mut pair = [number / 97, number % 97];
        for (token, target) in tokens.iter_mut().zip(targets.iter_mut()) {
            [*token, *target] = pair;
            pair = [pair[1], (pair[0] + pair[1]) % 97];
        }
        targets[0] = IGNORED;
    }
}

/// Trains a run to its end, and returns the held-out loss.
fn train(run: &Run) -> Result<f64, TrainError> {
    let device = Default::default();
    let step = run.resume_point::<Autodiff<Flex>>(&device)?.step;
    let outcome = run.train::<Autodiff<Flex>, _>(&device, step, TrainOptions::silent())?;
    let last = outcome.valid.last().expect("it is evaluated");
    println!("{} nats after {} steps", last.loss(), last.step);
    Ok(last.loss())
}

fn main() -> Result<(), TrainError> {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(name));
    let data = OwnData::new(Fibonacci(0), Fibonacci(N as u64));
    let model = ReformerLmConfig::new(ReformerConfig::new(97, 32, 2));
    let config = TrainConfig::new(model.into(), DataConfig::Own("fibonacci".to_owned()))
        .with_window_length(LENGTH)
        .with_steps(20)
        .with_steps_per_epoch(20)
        .with_eval_windows(Some(16));
    let longer = config.clone().with_steps(40);
    let loss = train(&Run::create_with_data(longer, whole, &data)?)?;

    train(&Run::create_with_data(config, &parts, &data)?)?;
    let more = ResumeOptions::new().with_steps(Some(40));
    let resumed = train(&Run::resume_with_data(&parts, &more, &data)?)?;
    assert_eq!(loss.to_bits(), resumed.to_bits());
    Ok(())
}

#[test]
fn resumed_run_ends_with_the_same_loss() {
    main().unwrap();
}
