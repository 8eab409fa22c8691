//! The kernels for CubeCL runtimes, on whatever adapter wgpu finds. Software will do: Mesa's
//! `mesa-vulkan-drivers` on Linux.
//!
//! Each test skips where there is no adapter, and says so.

#![allow(clippy::unwrap_used)]

#[cfg(all(
    feature = "cuda",
    feature = "wgpu",
    target_os = "linux",
    target_arch = "x86_64"
))]
mod as_cuda;
#[allow(dead_code)]
#[path = "../laws/cases.rs"]
mod cases;
#[allow(dead_code)]
#[path = "../laws/common.rs"]
mod common;
mod large;
mod model;
#[cfg(feature = "wgpu")]
mod reads;
#[allow(dead_code)]
#[path = "../laws/steps.rs"]
mod steps;
#[path = "../suite/mod.rs"]
mod suite;

use std::panic::catch_unwind;
#[cfg(feature = "wgpu")]
use std::sync::RwLockWriteGuard;
use std::sync::{LazyLock, PoisonError, RwLock, RwLockReadGuard};

use burn::tensor::backend::Backend;
use burn_flex::Flex;
use suite::{Subject, say};

/// What is tested: CUDA where only that is built in.
#[cfg(feature = "wgpu")]
pub(crate) type Gpu = burn_wgpu::Wgpu;
#[cfg(all(feature = "cuda", not(feature = "wgpu")))]
pub(crate) type Gpu = burn_cuda::Cuda;

/// Who has the adapter: many, or one who counts what it does.
static TAKEN: RwLock<()> = RwLock::new(());

/// Takes the adapter beside other tests, if there is one.
pub(crate) fn adapter() -> Option<RwLockReadGuard<'static, ()>> {
    found().then(|| TAKEN.read().unwrap_or_else(PoisonError::into_inner))
}

/// Takes the adapter alone, if there is one.
#[cfg(feature = "wgpu")]
pub(crate) fn adapter_alone() -> Option<RwLockWriteGuard<'static, ()>> {
    found().then(|| TAKEN.write().unwrap_or_else(PoisonError::into_inner))
}

/// Asked once, aloud if there is none.
fn found() -> bool {
    static FOUND: LazyLock<bool> = LazyLock::new(|| {
        let found = catch_unwind(|| Gpu::sync(&Default::default())).is_ok_and(|sync| sync.is_ok());
        match found {
            true => say(&format!("adapter: {}", Gpu::name(&Default::default()))),
            false => say("SKIPPED: there is no adapter, so no kernel for it is tested"),
        }
        found
    });
    *FOUND
}

/// Judged by the reference on the host.
pub(crate) struct OnGpu;

impl Subject for OnGpu {
    type Backend = Gpu;
    type Judge = Flex;
    const TOLERANCE: f64 = 2e-5;
    const THINNED: bool = true;

    fn take() -> Option<impl Sized> {
        adapter()
    }
}

suite::kernel_laws!(kernels: crate::OnGpu);
