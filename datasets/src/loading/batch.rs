//! Sequences as tensors.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

use crate::sequences::Sequences;

/// A batch for a language model: each row has tokens and the token that follows each of them.
///
/// # Shapes
/// - tokens: `[batch_size, seq_length]`
/// - targets: `[batch_size, seq_length]`
#[derive(Clone, Debug)]
pub struct LmBatch<B: Backend> {
    /// The input tokens: for bytes and images, 0 to 255.
    pub tokens: Tensor<B, 2, Int>,
    /// The target of each position: the token after it, or [`IGNORED`](crate::IGNORED) where the
    /// prediction does not count.
    pub targets: Tensor<B, 2, Int>,
    /// Number of the batch, counted from the start of the run (in an evaluation: from its start).
    ///
    /// Randomness of a step (dropout, hash rotations) should be derived from it: a run that is
    /// resumed at this step then repeats it exactly.
    pub step: u64,
}

/// The source of a loader's batches, in two steps: any thread reads them into memory, and the
/// thread that uses them creates the tensors.
///
/// [`Sequences`] implement it, and so do the pairs of a [parallel text](crate::translation).
pub trait BatchSource: Clone + fmt::Debug + Send + Sync + 'static {
    /// A batch in memory.
    type Host: Send + 'static;

    /// A batch on a device.
    type Batch<B: Backend>;

    /// Reads the items of these numbers; repeated calls return the same.
    fn read(&self, numbers: Range<u64>) -> Self::Host;

    /// Transfers a batch to a device, as the batch of a step.
    fn batch<B: Backend>(host: Self::Host, step: u64, device: &B::Device) -> Self::Batch<B>;
}

/// The rows of an [`LmBatch`] in memory.
#[derive(Debug)]
pub struct HostBatch {
    tokens: Vec<i32>,
    targets: Vec<i32>,
    shape: [usize; 2],
}

impl BatchSource for Arc<dyn Sequences> {
    type Host = HostBatch;
    type Batch<B: Backend> = LmBatch<B>;

    fn read(&self, numbers: Range<u64>) -> HostBatch {
        let seq_length = self.seq_length();
        let batch_size = (numbers.end - numbers.start) as usize;
        let mut tokens = vec![0; batch_size * seq_length];
        let mut targets = vec![0; batch_size * seq_length];
        let rows = tokens
            .chunks_exact_mut(seq_length)
            .zip(targets.chunks_exact_mut(seq_length));
        for (number, (tokens, targets)) in numbers.zip(rows) {
            Sequences::read(&**self, number, tokens, targets);
        }
        HostBatch {
            tokens,
            targets,
            shape: [batch_size, seq_length],
        }
    }

    fn batch<B: Backend>(host: HostBatch, step: u64, device: &B::Device) -> LmBatch<B> {
        let tensor = |elements| Tensor::from_data(TensorData::new(elements, host.shape), device);
        LmBatch {
            tokens: tensor(host.tokens),
            targets: tensor(host.targets),
            step,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn_flex::Flex;

    use super::*;
    use crate::error::DatasetError;
    use crate::text::{ByteCorpus, SplitName, Windows};

    #[test]
    fn rows_are_the_sequences_and_bytes_keep_their_values() -> Result<(), DatasetError> {
        let bytes = [0, 255, 7, 128, 127, 9, 1, 3, 4, 5];
        let split = ByteCorpus::from_bytes("ten", bytes)?.whole_as(SplitName::Train);
        let windows: Arc<dyn Sequences> = Arc::new(Windows::new(&split, 3)?);
        let host = BatchSource::read(&windows, 1..3);
        let batch: LmBatch<Flex> =
            <Arc<dyn Sequences> as BatchSource>::batch(host, 41, &Default::default());
        let int = |t: Tensor<Flex, 2, Int>| t.to_data().iter::<i64>().collect::<Vec<_>>();
        assert_eq!(batch.step, 41);
        assert_eq!(batch.tokens.dims(), [2, 3]);
        assert_eq!(batch.targets.dims(), [2, 3]);
        assert_eq!(int(batch.tokens), [128, 127, 9, 1, 3, 4]);
        assert_eq!(int(batch.targets), [127, 9, 1, 3, 4, 5]);
        Ok(())
    }
}
