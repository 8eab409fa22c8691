//! How many tokens a second the loaders read from a mapped file, without a model.
//!
//! ```sh
//! cargo run --release -p reformer-datasets --example throughput -- [FILE]
//! ```
//!
//! Without a file it makes one of 256 MiB. The first pass over a file that is not in the system's
//! cache is as fast as the disk.

use std::error::Error;
use std::io::Write;
use std::time::Instant;

use burn::data::dataloader::DataLoader;
use burn_flex::Flex;
use reformer_datasets::{ByteCorpus, EvalLoaderConfig, LmBatch, SplitName, TrainLoaderConfig};

const SEQ_LENGTH: usize = 65_536;
const BATCH_SIZE: usize = 8;
const N_STEPS: usize = 400;

fn main() -> Result<(), Box<dyn Error>> {
    let made = tempfile::NamedTempFile::new()?;
    let path = match std::env::args_os().nth(1) {
        Some(path) => path.into(),
        None => {
            let block: Vec<u8> = (0..1 << 20).map(|i: u32| ((i * i) >> 7) as u8).collect();
            for _ in 0..256 {
                made.as_file().write_all(&block)?;
            }
            made.path().to_owned()
        }
    };
    let started = Instant::now();
    let split = ByteCorpus::open(&path)?.whole_as(SplitName::Train);
    println!(
        "opened {} MB in {:?}",
        split.len() / 1_000_000,
        started.elapsed()
    );

    let device = Default::default();
    for n_workers in [0, 1, 2] {
        let config =
            TrainLoaderConfig::new(SEQ_LENGTH, BATCH_SIZE, N_STEPS).with_n_workers(n_workers);
        measure(
            &format!("shuffled, {n_workers} workers"),
            &config.init(&split, &device)?,
        );
    }
    let valid =
        EvalLoaderConfig::new(SEQ_LENGTH, BATCH_SIZE).with_max_windows(Some(N_STEPS * BATCH_SIZE));
    measure("in order", &valid.init(&split, &device)?);
    Ok(())
}

fn measure(what: &str, loader: &dyn DataLoader<Flex, LmBatch<Flex>>) {
    let started = Instant::now();
    let n_tokens: usize = loader
        .iter()
        .map(|batch| batch.tokens.dims().iter().product::<usize>())
        .sum();
    let rate = n_tokens as f64 / started.elapsed().as_secs_f64() / 1e6;
    println!("{what:20} {rate:7.0} million tokens/s");
}
