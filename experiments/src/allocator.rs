//! What the C library does with memory that is freed.

/// Sizes from which on glibc asks the system for each allocation by itself: the largest it takes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MMAP_THRESHOLD: i32 = 32 << 20;

/// Keeps freed memory for the next allocation instead of giving it back to the system.
///
/// A training step allocates and frees the same large tensors as the step before. glibc gives
/// most of them back in between, and each page is then cleared again: a quarter of the time of a
/// small model. Does nothing on other systems.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` may be called at any time; it changes when memory moves between the
    // allocator and the system, and nothing about memory in use.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}
