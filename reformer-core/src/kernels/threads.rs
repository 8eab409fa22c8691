//! How much work is worth another thread.

/// Number of multiplications of a matrix product that take as long as waking a thread, a few
/// microseconds: less work is faster on the thread that has it.
const WORTH_A_THREAD: usize = 1 << 17;

/// Number of items that a task should have at least, each of which takes as long as so many
/// multiplications of a matrix product.
pub(crate) fn items_of_task(multiplications: usize) -> usize {
    WORTH_A_THREAD.div_ceil(multiplications.max(1))
}
