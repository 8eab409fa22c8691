//! Sequences as tensors.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

use crate::loading::sequences::Sequences;

/// A batch for a language model: in each row, tokens and the token that follows each of them.
///
/// # Shapes
///
/// - tokens: `[batch_size, seq_length]`
/// - targets: `[batch_size, seq_length]`
#[derive(Clone, Debug)]
pub struct LmBatch<B: Backend> {
    /// What the model reads: of bytes and of images, 0 to 255.
    pub tokens: Tensor<B, 2, Int>,
    /// What it should predict at each position: the token after it, or [`IGNORED`](crate::IGNORED) where the
    /// prediction does not count.
    pub targets: Tensor<B, 2, Int>,
    /// Number of the batch, counted from the start of the run (in an evaluation: from its start).
    ///
    /// It is the counter to derive a step's randomness from (dropout, hash rotations): a run that is resumed
    /// at this step then repeats it exactly.
    pub step: u64,
}

/// The rows of a batch in memory, so that any thread can read them: tensors are made by the thread that uses them.
#[derive(Debug)]
pub(crate) struct HostBatch {
    tokens: Vec<i32>,
    targets: Vec<i32>,
    shape: [usize; 2],
}

impl HostBatch {
    /// Reads the sequences from `first` on, one a row.
    pub(crate) fn read(sequences: &dyn Sequences, first: u64, batch_size: usize) -> Self {
        let seq_length = sequences.seq_length();
        let mut tokens = vec![0; batch_size * seq_length];
        let mut targets = vec![0; batch_size * seq_length];
        let rows = tokens
            .chunks_exact_mut(seq_length)
            .zip(targets.chunks_exact_mut(seq_length));
        for (number, (tokens, targets)) in (first..).zip(rows) {
            sequences.read(number, tokens, targets);
        }
        Self {
            tokens,
            targets,
            shape: [batch_size, seq_length],
        }
    }

    /// The rows as tensors on a device.
    pub(crate) fn into_lm_batch<B: Backend>(self, step: u64, device: &B::Device) -> LmBatch<B> {
        let tensor = |elements| Tensor::from_data(TensorData::new(elements, self.shape), device);
        LmBatch {
            tokens: tensor(self.tokens),
            targets: tensor(self.targets),
            step,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn_flex::Flex;

    use super::*;
    use crate::error::DatasetError;
    use crate::text::{ByteCorpus, ByteWindows, SplitName};

    #[test]
    fn rows_are_the_sequences_and_bytes_keep_their_values() -> Result<(), DatasetError> {
        let bytes = [0, 255, 7, 128, 127, 9, 1, 3, 4, 5];
        let split = ByteCorpus::from_bytes("ten", bytes)?.whole_as(SplitName::Train);
        let windows = ByteWindows::new(&split, 3)?;
        let batch: LmBatch<Flex> =
            HostBatch::read(&windows, 1, 2).into_lm_batch(41, &Default::default());
        let int = |t: Tensor<Flex, 2, Int>| t.to_data().iter::<i64>().collect::<Vec<_>>();
        assert_eq!(batch.step, 41);
        assert_eq!(batch.tokens.dims(), [2, 3]);
        assert_eq!(batch.targets.dims(), [2, 3]);
        assert_eq!(int(batch.tokens), [128, 127, 9, 1, 3, 4]);
        assert_eq!(int(batch.targets), [127, 9, 1, 3, 4, 5]);
        Ok(())
    }
}
