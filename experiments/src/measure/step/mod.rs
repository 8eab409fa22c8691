//! A measured training step, compared with the machine's rate of matrix products.

mod arguments;

use std::time::Instant;

use crate::cli::arguments::check_most;
use crate::cli::device::{self, DeviceName, Job};
use crate::measure::flops;
use crate::measure::median::median;
use crate::measure::memory::peak_resident_bytes;
use anyhow::{Context, Result};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Distribution, Int, Tensor, TensorData};
use rayon::ThreadPoolBuilder;
use reformer_core::kernels::{ReformerBackend, TrainBackend};
use reformer_core::model::{ReformerLm, Trainable};
use reformer_core::{Key, Pass};
use serde::{Deserialize, Serialize};

use arguments::{VOCAB_SIZE, config, transformer};

pub(crate) use arguments::StepArguments;

/// Rows and columns of the matrices whose product determines the rate.
const GEMM_SIZE: usize = 2048;
const GEMM_REPEATS: usize = 5;
const MOST_THREADS: usize = 1024;

/// Result of a measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// Median of the timed steps.
    pub(crate) seconds: f64,
    pub(crate) tokens_per_second: f64,
    /// Highest resident memory of the process; on a GPU, what is reserved there after the last step.
    pub(crate) peak_mib: Option<f64>,
    /// Operations of a step.
    pub(crate) gflop: f64,
    /// Rate of one large matrix product; none with `--bare`.
    pub(crate) gemm_gflops: Option<f64>,
    /// `seconds` over `gflop / gemm_gflops`.
    pub(crate) ratio_to_limit: Option<f64>,
    pub(crate) parameters: usize,
    /// `None` if it is not finite.
    pub(crate) loss: Option<f64>,
    pub(crate) settings: StepArguments,
}

impl Measurement {
    /// The peak without parameters and their gradients, in MiB.
    pub(crate) fn activation_mib(&self) -> Option<f64> {
        const BYTES_OF_F32: usize = 4;
        let others = (2 * BYTES_OF_F32 * self.parameters) as f64 / f64::from(1 << 20);
        Some(self.peak_mib? - others)
    }
}

/// Measures a step. The number of threads takes effect only once in a process.
pub(crate) fn measure(arguments: StepArguments) -> Result<Measurement> {
    let threads = arguments.threads.unwrap_or(0); // 0: one for each core
    check_most("--threads", threads, MOST_THREADS)?;
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .with_context(|| format!("{threads} threads cannot be started"))?;
    device::run(arguments.device, arguments)
}

impl Job<Measurement> for StepArguments {
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<Measurement> {
        let arguments = self;
        let config = config(&arguments)?;
        arguments.precision.check::<B>(&device)?;
        let gemm_gflops = match arguments.bare {
            true => None,
            false => Some(gemm_rate::<B::InnerBackend>(&device)?),
        };
        let warm_up = usize::from(!arguments.bare);

        let steps = [warm_up, arguments.steps];
        let size = [arguments.batch_size, arguments.length];
        let (parameters, (seconds, loss)) = match arguments.is_transformer() {
            true => {
                let model = transformer(&arguments)?.init::<B>(&device);
                let tokens = tokens::<B>(size, &device);
                let step = |_| model.gradients(tokens.clone(), tokens.clone());
                (model.num_params(), time::<B>(steps, &device, step)?)
            }
            false => {
                let model = config.init::<B>(&device);
                (model.num_params(), time_lm(&model, size, steps, &device)?)
            }
        };
        let seconds = median(seconds);
        let gflop = flops::training_step(&config, arguments.batch_size, arguments.length) / 1e9;
        let peak_mib = peak_mib::<B>(arguments.device, &device)?;
        Ok(Measurement {
            seconds,
            tokens_per_second: (size[0] * size[1]) as f64 / seconds,
            peak_mib,
            gflop,
            gemm_gflops,
            ratio_to_limit: gemm_gflops.map(|gflops| seconds * gflops / gflop),
            parameters,
            loss: Some(loss).filter(|loss| loss.is_finite()),
            settings: arguments,
        })
    }
}

/// Highest memory of the process or, on a GPU, that reserved there.
fn peak_mib<B: ReformerBackend>(name: DeviceName, device: &B::Device) -> Result<Option<f64>> {
    let bytes = match name {
        DeviceName::Flex | DeviceName::Ndarray => Some(peak_resident_bytes()?),
        _ => B::reserved_bytes(device),
    };
    Ok(bytes.map(|bytes| bytes as f64 / f64::from(1 << 20)))
}

/// Times steps of a language model on random bytes, `[batch, length]`, as [`time`] does.
fn time_lm<B: TrainBackend>(
    model: &ReformerLm<B>,
    size: [usize; 2],
    steps: [usize; 2],
    device: &B::Device,
) -> Result<(Vec<f64>, f64)> {
    let tokens = tokens::<B>(size, device);
    time::<B>(steps, device, |step| {
        let pass = Pass::train(Key::new(0).fold(step));
        let (loss, gradients) = model.gradients((tokens.clone(), tokens.clone()), pass);
        (loss.loss, gradients)
    })
}

/// Random bytes, `[batch, length]`.
fn tokens<B: AutodiffBackend>(shape: [usize; 2], device: &B::Device) -> Tensor<B, 2, Int> {
    let mut stream = Key::new(1).stream();
    let bytes: Vec<i32> = (0..shape[0] * shape[1])
        .map(|_| (rand::Rng::next_u32(&mut stream) % VOCAB_SIZE as u32) as i32)
        .collect();
    Tensor::from_data(TensorData::new(bytes, shape), device)
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
