//! One walk through a split, in order, to measure a model on it.

use std::ops::Range;
use std::sync::Arc;

use burn::config::Config;
use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::Dataset;
use burn::tensor::backend::Backend;

use crate::batch::LmBatch;
use crate::error::DatasetError;
use crate::rows::Rows;
use crate::split::Split;
use crate::windows::{ByteWindow, ByteWindows};

/// Configuration of an [`EvalLoader`].
#[derive(Config, Debug)]
pub struct EvalLoaderConfig {
    /// Inputs of a window, the model's sequence length. At least 1, and less than the bytes of the split.
    pub window_length: usize,
    /// Windows in a batch. At least 1.
    pub batch_size: usize,
    /// Where to stop: after the first windows of the split, at least 1. All of them when absent.
    pub max_windows: Option<usize>,
}

impl EvalLoaderConfig {
    /// A loader of the split's windows.
    ///
    /// # Errors
    ///
    /// [`ZeroWindowLength`](DatasetError::ZeroWindowLength), [`ZeroBatchSize`](DatasetError::ZeroBatchSize),
    /// [`ZeroMaxWindows`](DatasetError::ZeroMaxWindows) or [`SplitTooShort`](DatasetError::SplitTooShort).
    pub fn init<B: Backend>(
        &self,
        split: &Split,
        device: &B::Device,
    ) -> Result<EvalLoader<B>, DatasetError> {
        if self.batch_size == 0 {
            return Err(DatasetError::ZeroBatchSize);
        }
        if self.max_windows == Some(0) {
            return Err(DatasetError::ZeroMaxWindows);
        }
        let windows = ByteWindows::new(split, self.window_length)?;
        let n_windows = self.max_windows.unwrap_or(usize::MAX).min(windows.len());
        Ok(EvalLoader {
            windows,
            rows: Rows::all(n_windows, self.batch_size),
            device: device.clone(),
        })
    }
}

/// The windows of a split, in order and without overlap, from its first byte on.
///
/// Each `iter` yields the same batches, with `step` counted from 0; the last can be smaller. Every byte is a
/// target once, but for the split's first and for those at its end that fill no window, fewer than
/// `window_length`. The first bytes of a window are predicted from little, so figures compare only at the same
/// `window_length`.
///
/// # As a data loader
///
/// - `num_items` is the number of windows.
/// - `slice` takes the windows `start..end`. Batches are cut, and numbered, as in the whole, so only the first and
///   the last of a slice can be smaller. It panics when the slice is not inside the loader.
///
/// # Example
///
/// ```
/// use burn::data::dataloader::DataLoader;
/// use burn_flex::Flex;
/// use reformer_datasets::{ByteCorpus, EvalLoaderConfig};
///
/// # fn main() -> Result<(), reformer_datasets::DatasetError> {
/// let split = ByteCorpus::sample().split().valid;
/// let loader = EvalLoaderConfig::new(4_096, 5).init::<Flex>(&split, &Default::default())?;
/// // 50,000 bytes have 12 windows of 4,096 and the byte after them.
/// assert_eq!(loader.num_items(), 12);
/// let sizes: Vec<usize> = loader.iter().map(|batch| batch.tokens.dims()[0]).collect();
/// assert_eq!(sizes, [5, 5, 2]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct EvalLoader<B: Backend> {
    windows: ByteWindows,
    rows: Rows,
    device: B::Device,
}

impl<B: Backend> DataLoader<B, LmBatch<B>> for EvalLoader<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<LmBatch<B>> + 'a> {
        Box::new(EvalIterator {
            loader: self,
            batches: self.rows.batches(),
        })
    }

    fn num_items(&self) -> usize {
        self.rows.len()
    }

    fn to_device(&self, device: &B::Device) -> Arc<dyn DataLoader<B, LmBatch<B>>> {
        Arc::new(Self {
            windows: self.windows.clone(),
            rows: self.rows.clone(),
            device: device.clone(),
        })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<B, LmBatch<B>>> {
        Arc::new(Self {
            windows: self.windows.clone(),
            rows: self.rows.slice(start, end),
            device: self.device.clone(),
        })
    }
}

/// The batches that are still to come.
struct EvalIterator<'a, B: Backend> {
    loader: &'a EvalLoader<B>,
    batches: Range<usize>,
}

impl<B: Backend> Iterator for EvalIterator<'_, B> {
    type Item = LmBatch<B>;

    fn next(&mut self) -> Option<LmBatch<B>> {
        let batch = self.batches.next()?;
        let EvalLoader {
            windows,
            rows,
            device,
        } = self.loader;
        let windows: Vec<ByteWindow> = rows
            .of_batch(batch)
            .map(|row| windows.starting_at(row * windows.window_length()))
            .collect();
        Some(LmBatch::from_windows(&windows, batch as u64, device))
    }
}

impl<B: Backend> DataLoaderIterator<LmBatch<B>> for EvalIterator<'_, B> {
    fn progress(&self) -> Progress {
        let EvalLoader { rows, .. } = self.loader;
        Progress::new(rows.before_batch(self.batches.start), rows.len())
    }
}
