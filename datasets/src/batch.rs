//! Windows as tensors.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

use crate::windows::ByteWindow;

/// A batch for a language model: in each row, tokens and the token that follows each of them.
///
/// # Shapes
///
/// - tokens: `[batch_size, seq_length]`
/// - targets: `[batch_size, seq_length]`
#[derive(Clone, Debug)]
pub struct LmBatch<B: Backend> {
    /// What the model reads: bytes, 0 to 255.
    pub tokens: Tensor<B, 2, Int>,
    /// What it should predict at each position: the byte after it.
    pub targets: Tensor<B, 2, Int>,
    /// Number of the batch, counted from the start of the run (in an evaluation: from its start).
    ///
    /// It is the counter to derive a step's randomness from (dropout, hash rotations): a run that is resumed
    /// at this step then repeats it exactly.
    pub step: u64,
}

impl<B: Backend> LmBatch<B> {
    /// One row a window, in the order given.
    ///
    /// # Panics
    ///
    /// When there is no window, or when two differ in length.
    pub fn from_windows(windows: &[ByteWindow], step: u64, device: &B::Device) -> Self {
        let batch_size = windows.len();
        assert!(batch_size > 0, "a batch needs at least one window");
        let seq_length = windows[0].inputs().len();
        let rows = |bytes_of: fn(&ByteWindow) -> &[u8]| {
            let mut elements = Vec::with_capacity(batch_size * seq_length);
            for window in windows {
                let row = bytes_of(window);
                assert_eq!(
                    row.len(),
                    seq_length,
                    "the windows of a batch must have one length, that of its first"
                );
                elements.extend(row.iter().copied().map(i32::from));
            }
            Tensor::from_data(TensorData::new(elements, [batch_size, seq_length]), device)
        };
        Self {
            tokens: rows(ByteWindow::inputs),
            targets: rows(ByteWindow::targets),
            step,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::data::dataset::Dataset;
    use burn_flex::Flex;

    use super::*;
    use crate::corpus::ByteCorpus;
    use crate::error::DatasetError;
    use crate::split::SplitName;
    use crate::windows::ByteWindows;

    fn windows(window_length: usize) -> Result<Vec<ByteWindow>, DatasetError> {
        let bytes = [0, 255, 7, 128, 127, 9, 1];
        let split = ByteCorpus::from_bytes("seven", bytes)?.whole_as(SplitName::Train);
        Ok(ByteWindows::new(&split, window_length)?.iter().collect())
    }

    #[test]
    fn rows_are_the_windows_and_bytes_keep_their_values() -> Result<(), DatasetError> {
        let batch = LmBatch::<Flex>::from_windows(&windows(3)?, 41, &Default::default());
        assert_eq!(batch.step, 41);
        let int = |t: Tensor<Flex, 2, Int>| t.to_data().iter::<i64>().collect::<Vec<_>>();
        assert_eq!(batch.tokens.dims(), [2, 3]);
        assert_eq!(batch.targets.dims(), [2, 3]);
        assert_eq!(int(batch.tokens), [0, 255, 7, 128, 127, 9]);
        assert_eq!(int(batch.targets), [255, 7, 128, 127, 9, 1]);
        Ok(())
    }

    #[test]
    #[should_panic(expected = "at least one window")]
    fn batch_of_no_window_panics() {
        LmBatch::<Flex>::from_windows(&[], 0, &Default::default());
    }

    #[test]
    #[should_panic(expected = "must have one length")]
    fn windows_of_two_lengths_panic() {
        let mixed = [windows(2), windows(3)].map(|w| w.expect("both lengths fit"));
        LmBatch::<Flex>::from_windows(&mixed.concat(), 0, &Default::default());
    }
}
