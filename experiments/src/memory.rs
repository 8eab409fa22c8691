//! Memory of this process.

use std::fs;

use anyhow::{Context, Result};
use reformer_train::memory::ResidentMemory;

/// Available memory of the system, in bytes; none on systems where this is not implemented.
pub fn available_bytes() -> Option<u64> {
    available(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn available(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let kibibytes = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = kibibytes.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kibibytes)
}

/// Highest resident memory of this process so far, in bytes.
///
/// # Errors
/// On systems other than Linux, where this is not implemented.
pub fn peak_resident_bytes() -> Result<u64> {
    ResidentMemory::of_this_process()
        .map(|memory| memory.peak)
        .context("the peak memory is read from `/proc/self/status`, which only Linux has")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_found_among_the_other_lines() {
        let lines = "MemTotal:  9000 kB\nMemFree:  10 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(available(lines), Some(2 << 20));
        assert_eq!(available("MemTotal:  9000 kB\n"), None);
    }
}
