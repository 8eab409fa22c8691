//! A single pass through data, in order, for evaluation.

use std::ops::Range;
use std::sync::Arc;

use burn::config::Config;
use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::tensor::backend::Backend;

use crate::error::{DatasetError, SizeError};
use crate::loading::batch::BatchSource;
use crate::loading::train_loader::check_slice;
use crate::sequences::Sequences;
use crate::text::{Corpus, OverlappingWindows, Split, Windows};

/// Configuration of an [`EvalLoader`].
#[derive(Config, Debug)]
pub struct EvalLoaderConfig {
    /// Tokens of a sequence, the model's sequence length. At least 1; of a text, below its length.
    pub window_length: usize,
    /// Sequences in a batch. At least 1.
    pub batch_size: usize,
    /// Maximum number of sequences, at least 1. Default: all.
    pub max_windows: Option<usize>,
    /// For texts: tokens at the start of a window that are context only, because they were
    /// predicted in the window before. Less than `window_length`.
    ///
    /// Absent: [`Windows`] without overlap; at the end of the split fewer than `window_length`
    /// tokens are left out. Present: [`OverlappingWindows`]; every token but the first is predicted
    /// exactly once, also those at the end.
    pub context_length: Option<usize>,
}

impl EvalLoaderConfig {
    /// A loader of the split's windows.
    ///
    /// # Errors
    /// [`ZeroWindowLength`](SizeError::ZeroWindowLength),
    /// [`ZeroBatchSize`](SizeError::ZeroBatchSize), [`ZeroMaxWindows`](SizeError::ZeroMaxWindows),
    /// [`SplitTooShort`](SizeError::SplitTooShort) or
    /// [`ContextTooLong`](SizeError::ContextTooLong).
    pub fn init<B: Backend>(
        &self,
        split: &Split<impl Corpus>,
        device: &B::Device,
    ) -> Result<EvalLoader<B>, DatasetError> {
        let windows: Arc<dyn Sequences> = match self.context_length {
            None => Arc::new(Windows::new(split, self.window_length)?),
            Some(context) => Arc::new(OverlappingWindows::new(split, self.window_length, context)?),
        };
        self.init_sequences(windows, device)
    }

    /// A loader of any sequences. Endless ones need `max_windows`.
    ///
    /// # Errors
    /// [`OtherLength`](SizeError::OtherLength) when `window_length` is not that of the sequences,
    /// [`ZeroBatchSize`](SizeError::ZeroBatchSize), [`ZeroMaxWindows`](SizeError::ZeroMaxWindows),
    /// [`NoSequences`](SizeError::NoSequences) or
    /// [`EndlessEvaluation`](SizeError::EndlessEvaluation).
    pub fn init_sequences<B: Backend>(
        &self,
        sequences: Arc<dyn Sequences>,
        device: &B::Device,
    ) -> Result<EvalLoader<B>, DatasetError> {
        if self.batch_size == 0 {
            return Err(SizeError::ZeroBatchSize.into());
        }
        DatasetError::check_length(self.window_length, sequences.seq_length())?;
        let n_sequences = match (sequences.n_sequences(), self.max_windows) {
            (_, Some(0)) => return Err(SizeError::ZeroMaxWindows.into()),
            (None, None) => return Err(SizeError::EndlessEvaluation.into()),
            (Some(0), _) => return Err(SizeError::NoSequences.into()),
            (None, Some(n)) | (Some(n), None) => n,
            (Some(n), Some(max)) => n.min(max),
        };
        Ok(EvalLoader::new(
            sequences,
            n_sequences,
            self.batch_size,
            device,
        ))
    }
}

/// Sequences in order, from the first on: the windows of a split, or others.
///
/// Each `iter` yields the same batches, with `step` counted from 0; the last can be smaller. The
/// first bytes of a window without context are hard to predict, so losses are only comparable at
/// the same `window_length` and `context_length`.
///
/// # As a data loader
///
/// - `num_items` is the number of sequences.
/// - `slice` takes the sequences `start..end`. Batches have the same borders and numbers as without
///   it, so only the first and the last of a slice can be smaller. It panics when the slice is not
///   inside the loader.
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
pub struct EvalLoader<B: Backend, S: BatchSource = Arc<dyn Sequences>> {
    source: S,
    items: Range<usize>,
    batch_size: usize,
    device: B::Device,
}

impl<B: Backend, S: BatchSource> EvalLoader<B, S> {
    /// A loader of the items from 0 to `n_items`, in batches of `batch_size`.
    pub(crate) fn new(source: S, n_items: usize, batch_size: usize, device: &B::Device) -> Self {
        Self {
            source,
            items: 0..n_items,
            batch_size,
            device: device.clone(),
        }
    }
}

impl<B: Backend, S: BatchSource> DataLoader<B, S::Batch<B>> for EvalLoader<B, S> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<S::Batch<B>> + 'a> {
        Box::new(EvalIterator {
            loader: self,
            next: self.items.start,
        })
    }

    fn num_items(&self) -> usize {
        self.items.len()
    }

    fn to_device(&self, device: &B::Device) -> Arc<dyn DataLoader<B, S::Batch<B>>> {
        Arc::new(Self {
            source: self.source.clone(),
            items: self.items.clone(),
            batch_size: self.batch_size,
            device: device.clone(),
        })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<B, S::Batch<B>>> {
        check_slice(start, end, self.items.len());
        Arc::new(Self {
            source: self.source.clone(),
            items: self.items.start + start..self.items.start + end,
            batch_size: self.batch_size,
            device: self.device.clone(),
        })
    }
}

/// The batches from an item on.
struct EvalIterator<'a, B: Backend, S: BatchSource> {
    loader: &'a EvalLoader<B, S>,
    /// The first item of the next batch.
    next: usize,
}

impl<B: Backend, S: BatchSource> Iterator for EvalIterator<'_, B, S> {
    type Item = S::Batch<B>;

    fn next(&mut self) -> Option<S::Batch<B>> {
        let EvalLoader {
            source,
            items,
            batch_size,
            device,
        } = self.loader;
        if self.next == items.end {
            return None;
        }
        let batch = self.next / batch_size;
        let end = (batch + 1).saturating_mul(*batch_size).min(items.end);
        let read = source.read(self.next as u64..end as u64);
        self.next = end;
        Some(S::batch(read, batch as u64, device))
    }
}

impl<B: Backend, S: BatchSource> DataLoaderIterator<S::Batch<B>> for EvalIterator<'_, B, S> {
    fn progress(&self) -> Progress {
        let items = &self.loader.items;
        Progress::new(self.next - items.start, items.len())
    }
}
