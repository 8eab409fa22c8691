//! Compiled CUDA kernels are kept for the next start of a program: compiling them takes most of a first step.
//!
//! CubeCL keeps them by their names and compile-time settings, not by their text, so that a folder serves one build of a
//! program, one kind of GPU, and one version of the driver and of the compiler: see [`kernel_folder`]. Headers of another
//! version are not noticed, with which kernels are as right as before. What autotuning found is kept by CubeCL itself.

use std::collections::BTreeSet;
use std::env;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail, ensure};
use burn_cubecl::cubecl::config::cache::CacheConfig;
use burn_cubecl::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use cudarc::driver::result::{self, device};
use cudarc::driver::sys::{self, CUdevice_attribute as Attribute};
use cudarc::nvrtc;

use crate::cli::kernel_folder::{self, KernelFolder, VARIABLE};
use crate::cli::quietly;

/// The folder of this process, which others leave alone until it ends.
static FOLDER: OnceLock<Option<KernelFolder>> = OnceLock::new();

/// Lets CubeCL keep compiled kernels, unless the user's own configuration of CubeCL says where, or [`VARIABLE`] is `off`.
/// It has to be called before the first use of a device: CubeCL reads its configuration once. Without a folder, kernels
/// are compiled at each start, and a line says why.
///
/// # Errors
/// A value of [`VARIABLE`] that is neither `on` nor `off`.
pub(crate) fn keep() -> Result<()> {
    if kernel_folder::is_wanted(env::var_os(VARIABLE).as_deref())? {
        FOLDER.get_or_init(|| {
            configure().unwrap_or_else(|error| {
                eprintln!("Compiled kernels are not kept for the next start: {error:#}");
                None
            })
        });
    }
    Ok(())
}

/// Chooses a folder, and sets CubeCL's configuration to what CubeCL would read itself, with that folder.
fn configure() -> Result<Option<KernelFolder>> {
    // A file that cannot be parsed panics, also at the first use of the device, where it is reported.
    let Ok(config) = quietly(|| CubeClRuntimeConfig::from_current_dir().override_from_env()) else {
        return Ok(None);
    };
    if config.compilation.cache.is_some() {
        return Ok(None);
    }
    // Without a driver, a GPU or the compiler, whose functions panic then, the first use of the device says so.
    let Ok(Ok(())) = quietly(result::init) else {
        return Ok(None);
    };
    let Ok(machine) = quietly(machine) else {
        return Ok(None);
    };
    let fingerprint = kernel_folder::fingerprint(&kernel_folder::program()?, &machine?)?;
    let caches = dirs::cache_dir().context("there is no folder for caches, such as `~/.cache`")?;
    let kernels = caches.join("reformer").join("kernels");
    let folder = KernelFolder::take(&kernels, &fingerprint)
        .with_context(|| format!("`{}` cannot be used", kernels.display()))?;

    // Not by `set`, which panics if the configuration was read before.
    let mut current = CubeClRuntimeConfig::storage().lock();
    if current.is_none() {
        *current = Some(Arc::new(with_cache(config, &folder.kernels())));
    }
    Ok(Some(folder))
}

fn with_cache(mut config: CubeClRuntimeConfig, folder: &Path) -> CubeClRuntimeConfig {
    config.compilation.cache = Some(CacheConfig::File(folder.to_owned()));
    config
}

/// What kernels depend on besides the program: the driver, its compiler and the kind of GPU.
///
/// # Errors
/// GPUs of several kinds, which would use each other's kernels, or an error of the driver.
fn machine() -> Result<String> {
    let (mut driver, mut major, mut minor) = (0, 0, 0);
    // SAFETY: the functions write a number each to their arguments.
    unsafe {
        sys::cuDriverGetVersion(&raw mut driver).result()?;
        let version = nvrtc::sys::nvrtcVersion(&raw mut major, &raw mut minor);
        ensure!(version.result().is_ok(), "NVRTC does not say its version");
    }
    let kinds: BTreeSet<String> = (0..device::get_count()?).map(kind).collect::<Result<_>>()?;
    let [gpu] = &Vec::from_iter(kinds)[..] else {
        bail!("this machine has GPUs of several kinds (CUDA_VISIBLE_DEVICES chooses some)");
    };
    Ok(format!("driver {driver}, NVRTC {major}.{minor}, {gpu}"))
}

/// Name, architecture and size of a GPU, the last because a part of a GPU may have the name of the whole.
fn kind(number: i32) -> Result<String> {
    let gpu = device::get(number)?;
    // SAFETY: `gpu` is from `device::get`.
    let attribute = |attribute| unsafe { device::get_attribute(gpu, attribute) };
    Ok(format!(
        "{} {}.{} {} {}",
        device::get_name(gpu)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_settings_of_the_user_stay() {
        let text = "[compilation]\ncheck_mode = \"enforce\"\n[streaming]\nmax_streams = 3\n";
        let config: CubeClRuntimeConfig = toml::from_str(text).unwrap();
        assert!(config.compilation.cache.is_none());
        let config = with_cache(config, Path::new("kernels"));
        assert_eq!(config.streaming.max_streams, 3);
        let cache = config.compilation.cache.unwrap();
        assert_eq!(cache.root(), Path::new("kernels"));
        assert!(matches!(
            config.compilation.check_mode,
            burn_cubecl::cubecl::config::compilation::BoundsCheckMode::Enforce
        ));
    }

    #[test]
    fn a_cache_of_the_user_is_seen() {
        let config: CubeClRuntimeConfig =
            toml::from_str("[compilation]\ncache = \"target\"\n").unwrap();
        assert!(config.compilation.cache.is_some());
    }
}
