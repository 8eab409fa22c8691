//! The kernels for CubeCL runtimes, on whatever adapter wgpu finds. Software will do: Mesa's
//! `mesa-vulkan-drivers` on Linux.
//!
//! Each test skips where there is no adapter, and says so.

#![allow(clippy::unwrap_used)]

mod attention;
#[allow(dead_code)]
#[path = "../laws/cases.rs"]
mod cases;
#[allow(dead_code)]
#[path = "../laws/common.rs"]
mod common;
mod half;
#[cfg(feature = "wgpu")]
mod reads;
mod sorting;

use std::io::Write;
use std::panic::catch_unwind;
use std::sync::LazyLock;

use burn::tensor::backend::Backend;
use burn::tensor::{BasicOps, Tensor, TensorData};
use burn_flex::Flex;

/// What is tested: CUDA where only that is built in.
#[cfg(feature = "wgpu")]
pub(crate) type Gpu = burn_wgpu::Wgpu;
#[cfg(all(feature = "cuda", not(feature = "wgpu")))]
pub(crate) type Gpu = burn_cuda::Cuda;

/// Whether there is an adapter. Asked once, aloud if there is none.
pub(crate) fn adapter() -> bool {
    static FOUND: LazyLock<bool> = LazyLock::new(|| {
        let found = catch_unwind(|| Gpu::sync(&Default::default())).is_ok_and(|sync| sync.is_ok());
        match found {
            true => say(&format!("adapter: {}", Gpu::name(&Default::default()))),
            false => say("SKIPPED: wgpu finds no adapter, so no kernel for it is tested"),
        }
        found
    });
    *FOUND
}

/// Writes a line that the test harness does not keep to itself.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The same tensor on the backend that judges.
pub(crate) fn judged<const D: usize, K>(tensor: Tensor<Gpu, D, K>) -> Tensor<Flex, D, K>
where
    K: BasicOps<Gpu> + BasicOps<Flex>,
{
    let data: TensorData = tensor.into_data();
    Tensor::from_data(data, &Default::default())
}
