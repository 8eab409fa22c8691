//! Times the decoding of one token with a cache, by context length.

use std::process::ExitCode;
use std::time::Instant;

use crate::cli;
use crate::cli::arguments::{MOST_ROWS, MOST_TOKENS, check_range};
use crate::cli::device::{self, DeviceName, Job};
use crate::cli::named::named;
use crate::measure::median::median;
use crate::measure::memory::{DecodingSize, check_continuing, check_reading};
use anyhow::Result;
use clap::Parser;
use rand::Rng;
use reformer_core::Key;
use reformer_core::attention::{AttentionKind, Buckets, LshConfig, Window};
use reformer_core::generation::{DecodingConfig, LmDecoder, StepDecoder};
use reformer_core::kernels::{ReformerBackend, TrainBackend};
use reformer_core::model::{ReformerConfig, ReformerLmConfig};
use serde::Serialize;

const EXAMPLES: &str = "\
Examples:
  The table in benchmarks/:
    bench_generation
  Exact attention, whose cost grows with the length:
    bench_generation --contexts 1024,4096 --attention full
  Eight sequences at a time, as JSON:
    bench_generation --batch-size 8 --json";

/// Byte vocabulary.
const VOCAB_SIZE: u32 = 256;

/// Measure the time of a token and the memory of the cache.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Context lengths: tokens in the cache before the timed ones
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        default_value = "1024,4096,16384,65536"
    )]
    contexts: Vec<usize>,
    /// Timed tokens; their median is reported
    #[arg(long, value_name = "N", default_value_t = 100)]
    tokens: usize,
    /// Sequences at a time
    #[arg(long, alias = "batch", value_name = "N", default_value_t = 1)]
    batch_size: usize,
    /// Kinds of attention, repeated for all blocks
    #[arg(
        long,
        value_name = "KIND,...",
        value_delimiter = ',',
        value_parser = named::<AttentionKind>(),
        default_value = "lsh"
    )]
    attention: Vec<AttentionKind>,
    /// Number of blocks
    #[arg(long, alias = "depth", value_name = "N", default_value_t = 6)]
    layers: usize,
    /// Width of each residual stream
    #[arg(long, value_name = "N", default_value_t = 256)]
    d_model: usize,
    /// Number of attention heads
    #[arg(long, value_name = "N", default_value_t = 4)]
    n_heads: usize,
    /// Hash rounds of LSH attention
    #[arg(long, value_name = "N", default_value_t = 4)]
    n_rounds: usize,
    /// Add a local round to LSH attention, in which a position sees its neighbours
    #[arg(long)]
    local_round: bool,
    /// Hash buckets, an even number [default: chosen from the length]
    #[arg(long, value_name = "N")]
    n_buckets: Option<usize>,
    /// Keys per hash round: the last N positions of the query's bucket
    #[arg(long, value_name = "N", default_value_t = 64)]
    window: usize,
    /// Backend to compute on
    #[arg(long, value_enum, default_value = "flex")]
    device: DeviceName,
    /// Print a line of JSON for each length
    #[arg(long)]
    json: bool,
}

/// Result at one context length.
#[derive(Debug, Serialize)]
struct GenerationTiming {
    context: usize,
    /// Milliseconds of one decoding step.
    token_ms: f64,
    /// Seconds to read the whole context at once.
    prefill_seconds: f64,
    cache_mib: f64,
    /// Time of a token relative to that at the first length.
    ratio: f64,
}

pub fn main() -> ExitCode {
    cli::program(|arguments: Arguments| device::run(arguments.device, arguments))
}

impl Job for Arguments {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<()> {
        check_range("--tokens", self.tokens, MOST_TOKENS)?;
        check_range("--batch-size", self.batch_size, MOST_ROWS)?;
        for &context in &self.contexts {
            check_range("--contexts", context, MOST_TOKENS)?;
        }
        if !self.json {
            println!("context  ms a token  ratio  prefill s  cache MiB");
        }
        let mut first = None;
        for &context in &self.contexts {
            let mut measured = measure::<B::InnerBackend>(&self, context, &device)?;
            measured.ratio = measured.token_ms / *first.get_or_insert(measured.token_ms);
            if self.json {
                println!("{}", serde_json::to_string(&measured)?);
            } else {
                let GenerationTiming {
                    token_ms,
                    ratio,
                    prefill_seconds,
                    cache_mib,
                    ..
                } = measured;
                println!(
                    "{context:>7}  {token_ms:>10.3}  {ratio:>5.2}  {prefill_seconds:>9.2}  {cache_mib:>9.1}"
                );
            }
        }
        Ok(())
    }
}

fn measure<B: ReformerBackend>(
    arguments: &Arguments,
    context: usize,
    device: &B::Device,
) -> Result<GenerationTiming> {
    let mut lsh = LshConfig::new()
        .with_n_rounds(arguments.n_rounds)
        .with_local_round(arguments.local_round)
        .with_window(Window::Bucket {
            len: arguments.window,
        });
    if let Some(n_buckets) = arguments.n_buckets {
        lsh.n_buckets = Buckets::Count(n_buckets);
    }
    let stack = ReformerConfig::new(VOCAB_SIZE as usize, arguments.d_model, arguments.layers)
        .with_n_heads(arguments.n_heads)
        .with_layers(arguments.attention.clone())
        .with_lsh(lsh);
    let config = ReformerLmConfig::new(stack);
    config.validate()?;
    let model = config.init::<B>(device);
    // One token more, to warm up.
    let length = context + arguments.tokens + 1;
    let decoding = DecodingConfig::new(context).with_max_length(Some(length));
    let n_rows = arguments.batch_size;
    let way_out = "lower `--contexts`, `--batch-size` or `--tokens`";
    let what = format!("{n_rows} contexts of {context} tokens");
    let n_tokens = n_rows.saturating_mul(context);
    check_reading(
        &model.reformer,
        n_tokens,
        arguments.device,
        [&what, way_out],
    )?;
    let size = DecodingSize {
        n_rows,
        length,
        cache_bytes: LmDecoder::estimated_bytes(&model, n_rows, &decoding),
        vocab_size: VOCAB_SIZE as usize,
    };
    check_continuing(size, arguments.device, way_out)?;

    let mut stream = Key::new(1).stream();
    let mut random =
        |n: usize| -> Vec<u32> { (0..n).map(|_| stream.next_u32() % VOCAB_SIZE).collect() };
    let prompts: Vec<Vec<u32>> = (0..n_rows).map(|_| random(context)).collect();
    let begin = Instant::now();
    let (mut decoder, _) = LmDecoder::prefill(&model, &prompts, &decoding)?;
    let prefill_seconds = begin.elapsed().as_secs_f64();
    let mut seconds = Vec::with_capacity(arguments.tokens);
    for number in 0..=arguments.tokens {
        let tokens = random(n_rows);
        let begin = Instant::now();
        decoder.step(&tokens)?;
        if number > 0 {
            seconds.push(begin.elapsed().as_secs_f64());
        }
    }
    Ok(GenerationTiming {
        context,
        token_ms: 1e3 * median(seconds),
        prefill_seconds,
        cache_mib: decoder.memory_bytes() as f64 / f64::from(1 << 20),
        ratio: 1.0,
    })
}
