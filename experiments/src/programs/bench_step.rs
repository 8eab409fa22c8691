//! Times a training step and compares it with the machine's rate of matrix products.

use std::process::ExitCode;
use std::time::Instant;

use crate::allocator::keep_freed_memory;
use crate::arguments::{MOST_TOKENS, ModeName, check_most, check_range};
use crate::baseline::TransformerLmConfig;
use crate::cli;
use crate::device::{self, DeviceName, Job};
use crate::flops;
use crate::median::median;
use crate::memory::peak_resident_bytes;
use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Distribution, Int, Tensor, TensorData};
use clap::{Parser, ValueEnum};
use rayon::ThreadPoolBuilder;
use reformer_core::attention::{AttentionKind, ExactUpTo, LocalConfig, LshConfig, Window};
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::{ReformerConfig, ReformerLmConfig};
use reformer_core::reversible::Mode;
use reformer_core::{Key, Pass};
use serde::{Deserialize, Serialize};

const EXAMPLES: &str = "\
Examples:
  The step of the tables in the README:
    bench_step --length 4096
  Exact attention, for comparison:
    bench_step --length 4096 --attention full
  Burn's own Transformer of the same size, and ours with exact attention where that is cheaper:
    bench_step --length 512 --attention transformer
    bench_step --length 512 --exact-where-cheaper
  As JSON:
    bench_step --length 65536 --steps 1 --json

A step is forward, loss and backward, without the optimizer, after one step to warm up. The limit is
the time that its matrix products would take at the rate of one large product, measured in the same
run. Operations are counted as documented at `experiments::flops::training_step`.";

/// Byte vocabulary.
const VOCAB_SIZE: usize = 256;
/// Rows and columns of the matrices whose product determines the rate.
const GEMM_SIZE: usize = 2048;
const GEMM_REPEATS: usize = 5;
const MOST_THREADS: usize = 1024;

/// Measure the time and memory of a training step.
#[derive(Debug, Clone, Parser, Serialize, Deserialize)]
#[command(version, after_help = EXAMPLES)]
pub struct StepArguments {
    /// Bytes in a sequence
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub(crate) length: usize,
    /// Sequences in a step
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) batch: usize,
    /// Number of blocks, each of attention and feed-forward
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub(crate) depth: usize,
    /// Width of each residual stream
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) d_model: usize,
    /// Number of attention heads
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) n_heads: usize,
    /// Width of a head
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) d_head: usize,
    /// Width inside the feed-forward layers
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(crate) d_ff: usize,
    /// Hash rounds of LSH attention
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) n_rounds: usize,
    /// Positions in a chunk of LSH and local attention
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) chunk: usize,
    /// Kind of attention in all blocks
    #[arg(long, value_enum, default_value = "lsh")]
    pub(crate) attention: StepAttention,
    /// Keys that a query of LSH attention sees in a round
    #[arg(long, value_enum, default_value = "chunk")]
    pub(crate) window: WindowName,
    /// Add a local round to LSH attention, in which a position sees its neighbours
    #[arg(long)]
    pub(crate) local_round: bool,
    /// Use hashing even where the sequence is short enough for exact attention
    #[arg(long, conflicts_with = "exact_where_cheaper")]
    pub(crate) always_hash: bool,
    /// Use exact attention wherever it computes fewer logits than hashing
    #[arg(long)]
    pub(crate) exact_where_cheaper: bool,
    /// How the backward pass obtains activations
    #[arg(long, value_enum, default_value = "reversible")]
    pub(crate) mode: ModeName,
    /// Positions in a chunk of the feed-forward layers and of the loss
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(crate) ff_chunk: usize,
    /// Timed steps; their median is reported
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) steps: usize,
    /// Threads of the CPU backends [default: one for each core]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Backend to compute on
    #[arg(long, value_enum, default_value = "flex")]
    pub(crate) device: DeviceName,
    /// Print one line of JSON
    #[arg(long)]
    #[serde(skip)]
    json: bool,
    /// Skip the warm-up and the rate of a large product: for steps that take minutes or most
    /// of the memory
    #[arg(long)]
    pub(crate) bare: bool,
}

/// The model whose step is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StepAttention {
    /// A Reformer with LSH attention.
    Lsh,
    /// A Reformer with local attention.
    Local,
    /// A Reformer with exact attention.
    Full,
    /// Burn's own Transformer, by plain autodiff.
    Transformer,
}

impl StepAttention {
    fn kind(self) -> AttentionKind {
        match self {
            Self::Lsh => AttentionKind::Lsh,
            Self::Local => AttentionKind::Local,
            Self::Full | Self::Transformer => AttentionKind::Full,
        }
    }
}

/// Keys that a query of LSH attention sees in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WindowName {
    /// Its own chunk of the sorted sequence and the one before, as in the peers.
    Chunk,
    /// The last positions of its own bucket, as many as a chunk has.
    Bucket,
}

/// Result of a measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measurement {
    /// Median of the timed steps.
    pub(crate) seconds: f64,
    pub(crate) tokens_per_second: f64,
    /// Highest resident memory of the process; unknown for a GPU.
    pub(crate) peak_mib: Option<f64>,
    /// Operations of a step.
    gflop: f64,
    /// Rate of one large matrix product; none with `--bare`.
    gemm_gflops: Option<f64>,
    /// `seconds` over `gflop / gemm_gflops`.
    ratio_to_limit: Option<f64>,
    pub(crate) parameters: usize,
    loss: f64,
    pub(crate) settings: StepArguments,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments: StepArguments = cli::parse();
    keep_freed_memory();
    cli::main(|| {
        let json = arguments.json;
        let measurement = measure(arguments)?;
        print(&measurement, json)
    })
}

/// Measures a step. The number of threads takes effect only once in a process.
///
/// # Errors
/// Settings that cannot work, or a device that does not exist.
pub fn measure(arguments: StepArguments) -> Result<Measurement> {
    let threads = arguments.threads.unwrap_or(0); // 0: one for each core
    check_most("--threads", threads, MOST_THREADS)?;
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .with_context(|| format!("{threads} threads cannot be started"))?;
    let mut measurement = None;
    let bench = Bench {
        measurement: &mut measurement,
        arguments,
    };
    device::run(bench.arguments.device, bench)?;
    measurement.context("nothing was measured")
}

fn config(arguments: &StepArguments) -> Result<ReformerLmConfig> {
    let window = match arguments.window {
        WindowName::Chunk => Window::Chunk {
            before: 1,
            after: 0,
            within_bucket: false,
        },
        WindowName::Bucket => Window::Bucket {
            len: arguments.chunk,
        },
    };
    let mut lsh = LshConfig::new()
        .with_n_rounds(arguments.n_rounds)
        .with_local_round(arguments.local_round)
        .with_chunk_length(arguments.chunk)
        .with_window(window);
    if arguments.always_hash {
        lsh.exact_up_to = ExactUpTo::Never;
    }
    if arguments.exact_where_cheaper {
        lsh.exact_up_to = ExactUpTo::Cheaper;
    }
    let mode = match arguments.attention {
        StepAttention::Transformer => Mode::Plain,
        _ => arguments.mode.mode(),
    };
    let model = ReformerConfig::new(VOCAB_SIZE, arguments.d_model, arguments.depth)
        .with_n_heads(arguments.n_heads)
        .with_d_head(Some(arguments.d_head))
        .with_d_ff(Some(arguments.d_ff))
        .with_layers(vec![arguments.attention.kind()])
        .with_lsh(lsh)
        .with_local(LocalConfig::new().with_chunk_length(arguments.chunk))
        .with_mode(mode)
        .with_ff_chunk_length(Some(arguments.ff_chunk));
    let config = ReformerLmConfig::new(model).with_loss_chunk_length(arguments.ff_chunk);
    config.validate()?;
    check_range("--length", arguments.length, MOST_TOKENS)?;
    check_range("--batch", arguments.batch, MOST_TOKENS)?;
    let n_tokens = arguments.length.saturating_mul(arguments.batch);
    check_most("--length times --batch", n_tokens, MOST_TOKENS)?;
    check_range("--steps", arguments.steps, MOST_TOKENS)?;
    Ok(config)
}

struct Bench<'a> {
    arguments: StepArguments,
    measurement: &'a mut Option<Measurement>,
}

impl Job for Bench<'_> {
    fn run<B>(self, device: B::Device) -> Result<()>
    where
        B: AutodiffBackend + ReformerBackend,
        B::InnerBackend: ReformerBackend,
    {
        let Self {
            arguments,
            measurement,
        } = self;
        let config = config(&arguments)?;
        let on_cpu = matches!(arguments.device, DeviceName::Flex | DeviceName::Ndarray);
        let gemm_gflops = match arguments.bare {
            true => None,
            false => Some(gemm_rate::<B::InnerBackend>(&device)?),
        };
        let warm_up = usize::from(!arguments.bare);

        let size = arguments.batch * arguments.length;
        let tokens = tokens::<B>(&arguments, &device);
        let (parameters, seconds, loss) = match arguments.attention {
            StepAttention::Transformer => {
                let model = transformer(&arguments)?.init::<B>(&device);
                let step = |_| model.gradients(tokens.clone(), tokens.clone());
                let (seconds, loss) = time::<B>([warm_up, arguments.steps], &device, step)?;
                (model.num_params(), seconds, loss)
            }
            _ => {
                let model = config.init::<B>(&device);
                let step = |step| {
                    let pass = Pass::train(Key::new(0).fold(step));
                    let (loss, gradients) = model.gradients(tokens.clone(), tokens.clone(), pass);
                    (loss.loss, gradients)
                };
                let (seconds, loss) = time::<B>([warm_up, arguments.steps], &device, step)?;
                (model.num_params(), seconds, loss)
            }
        };
        let seconds = median(seconds);
        let gflop = flops::training_step(&config, arguments.batch, arguments.length) / 1e9;
        let peak_mib = if on_cpu {
            Some(peak_resident_bytes()? as f64 / f64::from(1 << 20))
        } else {
            None
        };
        *measurement = Some(Measurement {
            seconds,
            tokens_per_second: size as f64 / seconds,
            peak_mib,
            gflop,
            gemm_gflops,
            ratio_to_limit: gemm_gflops.map(|gflops| seconds * gflops / gflop),
            parameters,
            loss,
            settings: arguments,
        });
        Ok(())
    }
}

/// Random bytes, `[batch, length]`.
fn tokens<B: AutodiffBackend>(arguments: &StepArguments, device: &B::Device) -> Tensor<B, 2, Int> {
    let shape = [arguments.batch, arguments.length];
    let mut stream = Key::new(1).stream();
    let bytes: Vec<i32> = (0..shape[0] * shape[1])
        .map(|_| (rand::Rng::next_u32(&mut stream) % VOCAB_SIZE as u32) as i32)
        .collect();
    Tensor::from_data(TensorData::new(bytes, shape), device)
}

/// Burn's Transformer of the requested size.
fn transformer(arguments: &StepArguments) -> Result<TransformerLmConfig> {
    let StepArguments {
        d_model,
        d_ff,
        n_heads,
        d_head,
        depth,
        ..
    } = *arguments;
    if n_heads * d_head != d_model {
        bail!(
            "{n_heads} heads of {d_head} do not make {d_model}, as Burn's Transformer needs: change \
             `--d-head`"
        );
    }
    Ok(TransformerLmConfig::new(
        VOCAB_SIZE, d_model, d_ff, n_heads, depth,
    ))
}

/// Seconds of each step after the warm-up, and the last loss.
fn time<B: AutodiffBackend>(
    [warm_up, steps]: [usize; 2],
    device: &B::Device,
    mut step: impl FnMut(u64) -> (Tensor<B::InnerBackend, 1>, GradientsParams),
) -> Result<(Vec<f64>, f64)> {
    let mut seconds = Vec::with_capacity(steps);
    let mut last_loss = f64::NAN;
    for number in 0..warm_up + steps {
        let begin = Instant::now();
        let (loss, gradients) = step(number as u64);
        last_loss = scalar(loss)?;
        B::sync(device).map_err(|error| anyhow::anyhow!("the device failed: {error:?}"))?;
        let elapsed = begin.elapsed().as_secs_f64();
        drop(gradients);
        if number >= warm_up {
            seconds.push(elapsed);
        }
    }
    Ok((seconds, last_loss))
}

fn scalar<B: burn::tensor::backend::Backend>(tensor: Tensor<B, 1>) -> Result<f64> {
    let number = tensor.into_data().iter::<f64>().next();
    number.context("a loss is one number")
}

/// GFLOP/s of one large matrix product, the best of several.
fn gemm_rate<B: ReformerBackend>(device: &B::Device) -> Result<f64> {
    let random = || Tensor::<B, 2>::random([GEMM_SIZE, GEMM_SIZE], Distribution::Default, device);
    let (a, b) = (random(), random());
    let mut best = f64::INFINITY;
    for _ in 0..GEMM_REPEATS {
        let begin = Instant::now();
        let product = a.clone().matmul(b.clone());
        // Reading an element waits until the product is computed.
        scalar(product.slice([0..1, 0..1]).reshape([1]))?;
        best = best.min(begin.elapsed().as_secs_f64());
    }
    Ok(2.0 * (GEMM_SIZE as f64).powi(3) / best / 1e9)
}

fn print(measurement: &Measurement, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(measurement)?);
        return Ok(());
    }
    let Measurement {
        seconds,
        tokens_per_second,
        gflop,
        ..
    } = measurement;
    println!("a step:          {seconds:.3} s, {tokens_per_second:.0} tokens/s");
    match measurement.peak_mib {
        Some(peak_mib) => println!("peak memory:     {peak_mib:.0} MiB"),
        None => println!("peak memory:     not known for this device"),
    }
    println!("products:        {gflop:.1} GFLOP");
    if let (Some(gflops), Some(ratio)) = (measurement.gemm_gflops, measurement.ratio_to_limit) {
        println!("large product:   {gflops:.0} GFLOP/s");
        println!("ratio to limit:  {ratio:.2}");
    }
    Ok(())
}
