//! What the C library does with memory.

/// Settings of glibc, described in the chapter on tunables of its manual. The first three: freed
/// memory is kept, whatever its size, for the next allocation, and in one heap, where large
/// tensors find room. The last one: the heap asks for huge pages.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TUNABLES: &str = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=2147483647:\
                        glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1";

/// Starts the program again, in the same process, with an allocator set up for training. To be
/// called before anything else; does nothing on other systems, or where `GLIBC_TUNABLES` is set.
///
/// A training step allocates and frees the same large tensors as the step before. By default glibc
/// gives most of them back in between, and each page is then cleared again: a quarter of the time
/// of a small model, and a fifth of a step of 65,536 tokens. Rows at random places of long tensors
/// are found faster in huge pages: 4 % of such a step. These settings can only be made before a
/// program starts, by a variable of its environment.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::env;
        use std::os::unix::process::CommandExt;
        use std::process::Command;

        const VARIABLE: &str = "GLIBC_TUNABLES";
        let mut arguments = env::args_os();
        let (Ok(program), Some(name), None) =
            (env::current_exe(), arguments.next(), env::var_os(VARIABLE))
        else {
            return;
        };
        // Comes back only if it fails, and the program then goes on as it is.
        let _error = Command::new(program)
            .arg0(name)
            .args(arguments)
            .env(VARIABLE, TUNABLES)
            .exec();
    }
}
