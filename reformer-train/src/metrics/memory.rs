//! Memory of this process.

use std::fs;

/// Resident memory: in RAM, not only reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResidentMemory {
    /// Bytes now.
    pub current: u64,
    /// Peak in bytes.
    pub peak: u64,
}

impl ResidentMemory {
    /// The memory of this process. `None` on systems other than Linux.
    ///
    /// ```
    /// use reformer_train::metrics::memory::ResidentMemory;
    ///
    /// if let Some(memory) = ResidentMemory::of_this_process() {
    ///     println!("{} MiB, {} at most", memory.current >> 20, memory.peak >> 20);
    /// }
    /// ```
    pub fn of_this_process() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/status").ok()?)
    }

    fn parse(status: &str) -> Option<Self> {
        let bytes = |name| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(1024 * kibibytes)
        };
        Some(Self {
            current: bytes("VmRSS:")?,
            peak: bytes("VmHWM:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_found_among_the_other_lines() {
        let status = "VmPeak:\t  500 kB\nVmHWM:\t  1234 kB\nVmRSS:\t  1000 kB\n";
        let memory = ResidentMemory {
            current: 1000 * 1024,
            peak: 1234 * 1024,
        };
        assert_eq!(ResidentMemory::parse(status), Some(memory));
        assert_eq!(ResidentMemory::parse("VmRSS:\t 1000 kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_of_this_process_includes_what_it_holds() {
        let held = std::hint::black_box(vec![1u8; 32 << 20]);
        let memory = ResidentMemory::of_this_process().unwrap();
        assert!(memory.current >= held.len() as u64, "{memory:?}");
        assert!(memory.peak >= held.len() as u64, "{memory:?}");
    }
}
