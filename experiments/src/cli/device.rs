//! From `--device` to a backend.

use anyhow::{Result, bail};
use burn::prelude::DeviceOps;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use clap::ValueEnum;
use reformer_core::kernels::{ReformerBackend, TrainBackend};
use serde::{Deserialize, Serialize};

#[cfg(feature = "cuda")]
use crate::cli::kernel_cache;
use crate::cli::quietly;
use crate::cli::threads;

/// The backends that a program can be compiled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DeviceName {
    /// Burn's own CPU backend, the fastest on a CPU.
    Flex,
    /// The CPU backend on the crate `ndarray`.
    Ndarray,
    /// An NVIDIA GPU.
    Cuda,
    /// Any GPU, through Vulkan.
    Wgpu,
}

/// Work that can run on any backend, with a result.
pub(crate) trait Job<T = ()> {
    /// Runs on a device.
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<T>;
}

/// Runs a job on the default device of a backend.
///
/// # Errors
/// A backend that is not compiled in, missing hardware, or the job's own errors.
pub(crate) fn run<T>(name: DeviceName, job: impl Job<T>) -> Result<T> {
    match name {
        #[cfg(feature = "flex")]
        DeviceName::Flex => run_on::<T, burn_flex::Flex>(name, job),
        #[cfg(feature = "ndarray")]
        DeviceName::Ndarray => run_on::<T, burn_ndarray::NdArray>(name, job),
        #[cfg(feature = "cuda")]
        DeviceName::Cuda => {
            kernel_cache::keep()?;
            run_on::<T, burn_cuda::Cuda>(name, job)
        }
        #[cfg(feature = "wgpu")]
        DeviceName::Wgpu => run_on::<T, burn_wgpu::Wgpu>(name, job),
        #[allow(unreachable_patterns)] // Reachable if some backend is left out.
        name => bail!(
            "this program was compiled without the backend `{name}`: build it with \
             `cargo run --release -p experiments --features {name} ...`, or choose another --device",
            name = flag(name)
        ),
    }
}

/// Number of devices of the same kind as the default one.
pub(crate) fn count<B: Backend>() -> usize {
    B::device_count(B::Device::default().to_id().type_id)
}

/// The devices with these numbers, of the same kind as the default one.
///
/// # Errors
/// A number without a device, or one that is given twice.
pub(crate) fn numbered<B: Backend>(numbers: &[u16]) -> Result<Vec<B::Device>> {
    let id = B::Device::default().to_id();
    let n_devices = count::<B>();
    let mut devices = Vec::new();
    for (place, &number) in numbers.iter().enumerate() {
        if usize::from(number) >= n_devices {
            bail!("there is no device {number}: this backend has {n_devices}, numbered from 0");
        }
        if numbers[..place].contains(&number) {
            bail!("`--devices` names device {number} twice");
        }
        let mut id = id;
        id.index_id = number;
        devices.push(B::Device::from_id(id));
    }
    Ok(devices)
}

fn flag(name: DeviceName) -> String {
    format!("{name:?}").to_lowercase()
}

fn run_on<T, B: ReformerBackend>(name: DeviceName, job: impl Job<T>) -> Result<T> {
    threads::start()?;
    let device = B::Device::default();
    // If a driver is missing, backends panic at their first operation.
    let first = quietly(|| Tensor::<B, 1>::ones([1], &device).into_data());
    if let Err(panic) = first {
        bail!("the device `{}` cannot be used: {panic}", flag(name));
    }
    job.run::<burn_autodiff::Autodiff<B>>(device)
}
