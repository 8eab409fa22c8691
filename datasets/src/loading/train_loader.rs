//! The endless stream of training batches.

use std::ops::Range;
use std::sync::Arc;

use burn::config::Config;
use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::tensor::backend::Backend;

use crate::error::{DatasetError, SizeError};
use crate::loading::batch::BatchSource;
use crate::loading::cursor::Cursor;
use crate::loading::prefetch::Prefetch;
use crate::sequences::{Sequences, Shuffled};
use crate::text::{Corpus, ShuffledWindows, Split};

/// Configuration of a [`TrainLoader`].
#[derive(Config, Debug)]
pub struct TrainLoaderConfig {
    /// Tokens of a sequence, the model's sequence length. At least 1; of a text, below its length.
    pub window_length: usize,
    /// Sequences in a batch. At least 1.
    pub batch_size: usize,
    /// Batches in an epoch, the interval between two validations. At least 1.
    pub steps_per_epoch: usize,
    /// Seed of the cuts and the order of all sequences.
    #[config(default = 0)]
    pub seed: u64,
    /// Threads that read batches ahead while the model computes. 0: the thread that requests a
    /// batch reads it. The batches do not depend on this number.
    #[config(default = 0)]
    pub n_workers: usize,
}

impl TrainLoaderConfig {
    /// A loader of the split's windows, before step 0.
    ///
    /// The stream consists of passes over the split. Each draws, from the seed and its number only,
    /// the token at which its first window starts (the phase) and the order of its windows, which
    /// do not overlap.
    ///
    /// Every pass has the same number of windows. For `n` tokens and windows of `w` it is
    /// `n / w - 1` (1 where this is 0): one less than fits, so that from `2 * w` tokens on a phase
    /// can be any of `0..w`, and a token can be anywhere in a window. The maximum phase is
    /// `n - 1 - n_windows * w`, so no token of the split is left out of all passes.
    ///
    /// # Errors
    /// [`ZeroWindowLength`](SizeError::ZeroWindowLength),
    /// [`ZeroBatchSize`](SizeError::ZeroBatchSize),
    /// [`ZeroStepsPerEpoch`](SizeError::ZeroStepsPerEpoch),
    /// [`EpochTooLong`](SizeError::EpochTooLong) or [`SplitTooShort`](SizeError::SplitTooShort).
    pub fn init<B: Backend>(
        &self,
        split: &Split<impl Corpus>,
        device: &B::Device,
    ) -> Result<TrainLoader<B>, DatasetError> {
        let windows: Arc<dyn Sequences> = Arc::new(self.windows(split)?);
        self.loader_of(windows, device)
    }

    /// A loader of any sequences, before step 0. Finite data is read in passes, each in a new
    /// order ([`Shuffled`]); endless sequences are read in the order of their numbers.
    ///
    /// # Errors
    /// [`OtherLength`](SizeError::OtherLength) when `window_length` is not that of the sequences,
    /// [`NoSequences`](SizeError::NoSequences), [`ZeroBatchSize`](SizeError::ZeroBatchSize),
    /// [`ZeroStepsPerEpoch`](SizeError::ZeroStepsPerEpoch) or
    /// [`EpochTooLong`](SizeError::EpochTooLong).
    pub fn init_sequences<B: Backend>(
        &self,
        sequences: Arc<dyn Sequences>,
        device: &B::Device,
    ) -> Result<TrainLoader<B>, DatasetError> {
        DatasetError::check_length(self.window_length, sequences.seq_length())?;
        let stream = match sequences.n_sequences() {
            None => sequences,
            Some(_) => Arc::new(Shuffled::new(sequences, self.seed).ok_or(SizeError::NoSequences)?),
        };
        self.loader_of(stream, device)
    }

    /// The endless windows that [`init`](Self::init) reads, so that callers can transform them.
    ///
    /// # Errors
    /// [`ZeroWindowLength`](SizeError::ZeroWindowLength) or
    /// [`SplitTooShort`](SizeError::SplitTooShort).
    pub fn windows<C: Corpus>(&self, split: &Split<C>) -> Result<ShuffledWindows<C>, DatasetError> {
        ShuffledWindows::new(split, self.window_length, self.seed)
    }

    /// A loader whose samples are the items of an endless source.
    pub(crate) fn loader_of<B: Backend, S: BatchSource>(
        &self,
        source: S,
        device: &B::Device,
    ) -> Result<TrainLoader<B, S>, DatasetError> {
        TrainLoader::new(
            source,
            self.batch_size,
            self.steps_per_epoch,
            self.n_workers,
            device,
        )
    }
}

/// Which items of a source are the batch of a step.
#[derive(Clone, Debug)]
struct BatchPlan<S> {
    source: S,
    batch_size: u64,
    /// The rows of each batch that are read.
    rows: Range<u64>,
}

impl<S: BatchSource> BatchPlan<S> {
    fn read(&self, step: u64) -> S::Host {
        let first = step * self.batch_size;
        self.source
            .read(first + self.rows.start..first + self.rows.end)
    }
}

/// An endless stream of shuffled batches, cut into epochs of `steps_per_epoch` steps.
///
/// Row `r` of step `s` is sample `s * batch_size + r` of the stream, and a sample is a function of
/// the seed and its number. So the batch of a step does not depend on the steps before it: see
/// [`batch`](Self::batch).
///
/// The type of its batches depends on `S`: by default [`Sequences`], which give
/// [`LmBatch`](crate::LmBatch)es.
///
/// # As a data loader
///
/// - `iter` continues where the iterators before it ended, to the end of the epoch. One that is
///   dropped half-way leaves the rest of its epoch to the next.
/// - `num_items` is the number of sequences in an epoch.
/// - `to_device` returns the same stream: this loader does not yield again what it yields.
/// - `slice` takes whole batches, `start / batch_size..end / batch_size` of each epoch, as a
///   separate stream that starts in the current epoch of this one. A batch keeps its step, and
///   adjacent slices share no batch and omit none: so Burn divides an epoch among devices. It
///   panics when the slice is not inside the loader.
///
/// # Example
///
/// ```
/// use burn::data::dataloader::DataLoader;
/// use burn_flex::Flex;
/// use reformer_datasets::{ByteCorpus, TrainLoaderConfig};
///
/// # fn main() -> Result<(), reformer_datasets::DatasetError> {
/// let split = ByteCorpus::sample().split().train;
/// let config = TrainLoaderConfig::new(512, 8, 4).with_seed(1);
/// let loader = config.init::<Flex>(&split, &Default::default())?;
/// for epoch in 0..2 {
///     let steps: Vec<u64> = loader.iter().map(|batch| batch.step).collect();
///     assert_eq!(steps, [0, 1, 2, 3].map(|step| 4 * epoch + step));
/// }
///
/// // A run that stopped after step 5 continues with step 6.
/// let resumed = loader.starting_at(6);
/// let steps: Vec<u64> = resumed.iter().map(|batch| batch.step).collect();
/// assert_eq!(steps, [6, 7]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TrainLoader<B: Backend, S: BatchSource = Arc<dyn Sequences>> {
    plan: BatchPlan<S>,
    cursor: Arc<Cursor>,
    n_workers: usize,
    device: B::Device,
}

impl<B: Backend, S: BatchSource> TrainLoader<B, S> {
    /// A loader of batches of `batch_size` successive items of an endless source, before step 0.
    pub(crate) fn new(
        source: S,
        batch_size: usize,
        steps_per_epoch: usize,
        n_workers: usize,
        device: &B::Device,
    ) -> Result<Self, DatasetError> {
        if batch_size == 0 {
            return Err(SizeError::ZeroBatchSize.into());
        }
        if steps_per_epoch == 0 {
            return Err(SizeError::ZeroStepsPerEpoch.into());
        }
        if steps_per_epoch.checked_mul(batch_size).is_none() {
            return Err(SizeError::EpochTooLong {
                steps_per_epoch,
                batch_size,
            }
            .into());
        }
        let batch_size = batch_size as u64;
        Ok(Self {
            plan: BatchPlan {
                source,
                batch_size,
                rows: 0..batch_size,
            },
            cursor: Arc::new(Cursor::new(steps_per_epoch as u64)),
            n_workers,
            device: device.clone(),
        })
    }

    /// The same stream, entered at this step. The first epoch is the one that contains the step,
    /// and its end does not move.
    pub fn starting_at(self, step: u64) -> Self {
        Self {
            cursor: Arc::new(self.cursor.starting_at(step)),
            ..self
        }
    }

    /// The same stream with these rows of each batch only, for one of several machines that
    /// share a batch. Steps, epochs and progress stay those of whole batches.
    ///
    /// ```
    /// use burn_flex::Flex;
    /// use reformer_datasets::{ByteCorpus, TrainLoaderConfig};
    ///
    /// # fn main() -> Result<(), reformer_datasets::DatasetError> {
    /// let split = ByteCorpus::sample().split().train;
    /// let loader = || TrainLoaderConfig::new(16, 4, 10).init::<Flex>(&split, &Default::default());
    /// let whole = loader()?.batch(7);
    /// let half = loader()?.taking_rows(2..4).batch(7);
    /// let rows = whole.tokens.slice_dim(0, 2..4).into_data();
    /// half.tokens.into_data().assert_eq(&rows, true);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// When the range is empty, or exceeds the batch.
    pub fn taking_rows(mut self, rows: Range<usize>) -> Self {
        let batch_size = self.plan.batch_size;
        assert!(
            !rows.is_empty() && rows.end as u64 <= batch_size,
            "rows {rows:?} are empty or exceed a batch of {batch_size}"
        );
        self.plan.rows = rows.start as u64..rows.end as u64;
        self
    }

    /// The step of the next batch: what to keep in a checkpoint and to give to
    /// [`starting_at`](Self::starting_at).
    pub fn next_step(&self) -> u64 {
        self.cursor.next_step()
    }

    /// The batch of a step, independent of the position of the stream.
    ///
    /// It is a function of the data, the configuration (except for `steps_per_epoch` and
    /// `n_workers`) and the step alone.
    ///
    /// # Shapes
    /// - tokens, targets of an [`LmBatch`](crate::LmBatch): `[batch_size, window_length]`
    pub fn batch(&self, step: u64) -> S::Batch<B> {
        S::batch(self.plan.read(step), step, &self.device)
    }

    /// Number of sequences in a number of its batches.
    fn n_items(&self, n_batches: u64) -> usize {
        (n_batches * self.plan.batch_size) as usize
    }
}

impl<B: Backend, S: BatchSource> DataLoader<B, S::Batch<B>> for TrainLoader<B, S> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<S::Batch<B>> + 'a> {
        let epoch = self.cursor.epoch();
        let steps = self.cursor.rest_of(epoch);
        let next = steps.start;
        let prefetch = (self.n_workers > 0).then(|| {
            let plan = self.plan.clone();
            Prefetch::start(self.n_workers, steps, Arc::new(move |step| plan.read(step)))
        });
        Box::new(TrainIterator {
            loader: self,
            epoch,
            next,
            prefetch,
        })
    }

    fn num_items(&self) -> usize {
        self.n_items(self.cursor.n_per_epoch())
    }

    fn to_device(&self, device: &B::Device) -> Arc<dyn DataLoader<B, S::Batch<B>>> {
        Arc::new(Self {
            plan: self.plan.clone(),
            cursor: self.cursor.clone(),
            n_workers: self.n_workers,
            device: device.clone(),
        })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<B, S::Batch<B>>> {
        check_slice(start, end, self.num_items());
        let [start, end] = [start, end].map(|item| item as u64 / self.plan.batch_size);
        Arc::new(Self {
            plan: self.plan.clone(),
            cursor: Arc::new(self.cursor.slice(start, end)),
            n_workers: self.n_workers,
            device: self.device.clone(),
        })
    }
}

/// Checks the bounds of a slice.
///
/// # Panics
/// When it is not inside its loader.
pub(super) fn check_slice(start: usize, end: usize, n_items: usize) {
    assert!(
        start <= end && end <= n_items,
        "a slice must lie within the {n_items} items of its loader: {start}..{end}"
    );
}

/// The batches from the cursor to the end of an epoch.
struct TrainIterator<'a, B: Backend, S: BatchSource> {
    loader: &'a TrainLoader<B, S>,
    epoch: u64,
    /// The step after the last batch.
    next: u64,
    prefetch: Option<Prefetch<S::Host>>,
}

impl<B: Backend, S: BatchSource> Iterator for TrainIterator<'_, B, S> {
    type Item = S::Batch<B>;

    fn next(&mut self) -> Option<S::Batch<B>> {
        let TrainLoader {
            plan,
            cursor,
            device,
            ..
        } = self.loader;
        let step = cursor.take_in(self.epoch)?;
        self.next = step + 1;
        let batch = match &mut self.prefetch {
            Some(prefetch) => prefetch.take(step),
            None => plan.read(step),
        };
        Some(S::batch(batch, step, device))
    }
}

impl<B: Backend, S: BatchSource> DataLoaderIterator<S::Batch<B>> for TrainIterator<'_, B, S> {
    /// Sequences of the epoch up to the last batch, including those that earlier iterators took.
    fn progress(&self) -> Progress {
        let n_batches = self.loader.cursor.n_before(self.next, self.epoch);
        Progress::new(self.loader.n_items(n_batches), self.loader.num_items())
    }
}
