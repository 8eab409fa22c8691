//! Memory of this process.

use std::fs;

use anyhow::{Context, Result, bail};

/// Highest resident memory of this process so far, in bytes.
///
/// # Errors
/// On systems other than Linux, where it is not known how to ask.
pub fn peak_resident_bytes() -> Result<u64> {
    let path = "/proc/self/status";
    let status = fs::read_to_string(path)
        .with_context(|| format!("the peak memory is read from `{path}`, which only Linux has"))?;
    match parse_peak(&status) {
        Some(bytes) => Ok(bytes),
        None => bail!("`{path}` does not tell the peak memory"),
    }
}

fn parse_peak(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kibibytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_is_found_among_the_other_lines() {
        let status = "VmPeak:\t  500 kB\nVmHWM:\t  1234 kB\nVmRSS:\t  1000 kB\n";
        assert_eq!(parse_peak(status), Some(1234 * 1024));
        assert_eq!(parse_peak("VmRSS:\t 1000 kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn peak_of_this_process_includes_what_it_holds() {
        let held = vec![1u8; 32 << 20];
        let peak = peak_resident_bytes().unwrap();
        assert!(peak >= held.len() as u64, "{peak}");
    }
}
