//! Memory of this process.

use anyhow::{Context, Result, bail};
use burn::tensor::backend::Backend;
use reformer_core::model::Reformer;
use reformer_train::metrics::memory::ResidentMemory;

use crate::cli::device::DeviceName;
use crate::measure::available::available_bytes;

/// Checks that the free memory is enough to read so many tokens at a time; a GPU has its own. Per token, reading takes about
/// fourteen vectors of the model's width, and the cache one per layer: 4.4 KB with the model that ships (measured).
///
/// # Errors
/// Too little memory, with the name of the tokens and a remedy.
pub(crate) fn check_reading<B: Backend>(
    stack: &Reformer<B>,
    n_tokens: usize,
    device: DeviceName,
    [what, way_out]: [&str; 2],
) -> Result<()> {
    let [_, d_model] = stack.embedding.weight.dims();
    let a_token = 4 * d_model * (14 + stack.blocks.len());
    let needed = (n_tokens as u64).saturating_mul(a_token as u64);
    check(needed, device, &format!("{what}, to be read,"), way_out)
}

/// The size of a generation: of all sequences that a model continues at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DecodingSize {
    /// Number of sequences.
    pub(crate) n_rows: usize,
    /// Tokens of each in the end.
    pub(crate) length: usize,
    /// Estimated memory of the cache, in bytes.
    pub(crate) cache_bytes: usize,
    /// Size of the vocabulary.
    pub(crate) vocab_size: usize,
}

/// Checks that the free memory is enough to continue sequences: caches, which are copied when they grow, logits, which
/// are sorted, and tokens, which become text. All are held twice.
///
/// # Errors
/// Too little memory, with a remedy.
pub(crate) fn check_continuing(
    size: DecodingSize,
    device: DeviceName,
    way_out: &str,
) -> Result<()> {
    let DecodingSize {
        n_rows,
        length,
        cache_bytes,
        vocab_size,
    } = size;
    let numbers = n_rows.saturating_mul(length.saturating_add(vocab_size));
    let needed = numbers.saturating_mul(4).saturating_add(cache_bytes);
    let needed = (needed as u64).saturating_mul(2);
    let what = format!("{n_rows} sequences of {length} tokens at a time");
    check(needed, device, &what, way_out)
}

/// Checks that so much memory is free; a GPU has its own.
fn check(needed: u64, device: DeviceName, what: &str, way_out: &str) -> Result<()> {
    let has_own_memory = matches!(device, DeviceName::Cuda | DeviceName::Wgpu);
    match available_bytes() {
        Some(available) if needed > available && !has_own_memory => bail!(
            "{what} need about {} MiB, and {} MiB are left: {way_out}",
            needed >> 20,
            available >> 20
        ),
        _ => Ok(()),
    }
}

/// Highest resident memory of this process so far, in bytes.
///
/// # Errors
/// On systems other than Linux, where this is not implemented.
pub(crate) fn peak_resident_bytes() -> Result<u64> {
    ResidentMemory::of_this_process()
        .map(|memory| memory.peak)
        .context("the peak memory is read from `/proc/self/status`, which only Linux has")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_memory_holds_is_refused_before_it_is_taken() {
        let size = |n_rows: usize| DecodingSize {
            n_rows,
            length: 500,
            cache_bytes: n_rows.saturating_mul(1 << 20),
            vocab_size: 256,
        };
        let check = |n_rows| check_continuing(size(n_rows), DeviceName::Flex, "lower it");
        check(1).unwrap();
        if available_bytes().is_some() {
            let message = check(usize::MAX).unwrap_err().to_string();
            assert!(message.contains("sequences of 500 tokens at a time need about"));
            assert!(message.ends_with("MiB are left: lower it"), "{message}");
        }
        check_continuing(size(usize::MAX), DeviceName::Cuda, "lower it").unwrap();
    }
}
