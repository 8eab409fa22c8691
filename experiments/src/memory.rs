//! Memory of this process.

use anyhow::{Context, Result};
use reformer_train::memory::ResidentMemory;

/// Highest resident memory of this process so far, in bytes.
///
/// # Errors
/// On systems other than Linux, where it is not known how to ask.
pub fn peak_resident_bytes() -> Result<u64> {
    ResidentMemory::of_this_process()
        .map(|memory| memory.peak)
        .context("the peak memory is read from `/proc/self/status`, which only Linux has")
}
