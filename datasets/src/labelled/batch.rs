//! Labelled rows in batches, to train and to evaluate.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Int, Tensor, TensorData};

use crate::error::{DatasetError, SizeError};
use crate::labelled::rows::LabelledRows;
use crate::loading::{BatchSource, EvalLoader, EvalLoaderConfig, TrainLoader, TrainLoaderConfig};
use crate::sequences::permutations::Permutations;

/// A batch for a model with a task head: each row has a sequence and its targets.
///
/// Rows are padded at their end to the length of the longest row.
///
/// # Shapes
/// - tokens, mask_pad: `[batch_size, seq_length]`
/// - targets: `[batch_size, n_targets]`
#[derive(Clone, Debug)]
pub struct LabelledBatch<B: Backend> {
    /// The input tokens, then padding.
    pub tokens: Tensor<B, 2, Int>,
    /// True at padding.
    pub mask_pad: Tensor<B, 2, Bool>,
    /// The class, or the first and last position of the answer; negative where there is no target.
    pub targets: Tensor<B, 2, Int>,
    /// Number of each row in the [`LabelledRows`].
    pub rows: Vec<usize>,
    /// Number of the batch, counted from the start of the run (in an evaluation: from its start).
    pub step: u64,
}

impl<B: Backend> LabelledBatch<B> {
    /// Tokens of a row before its padding. Waits for the device.
    ///
    /// # Panics
    /// When there is no row of this number.
    pub fn length(&self, row: usize) -> usize {
        let mask_pad = self.mask_pad.clone().slice_dim(0, row..row + 1).to_data();
        mask_pad
            .iter::<bool>()
            .filter(|is_padding| !is_padding)
            .count()
    }
}

/// The rows of a [`LabelledBatch`] in memory.
#[derive(Debug)]
pub struct HostRows {
    tokens: Vec<i32>,
    is_padding: Vec<bool>,
    targets: Vec<i32>,
    shape: [usize; 2],
    rows: Vec<usize>,
}

impl HostRows {
    /// Reads some rows, padded to a length.
    fn read(all: &LabelledRows, rows: Vec<usize>, length: usize) -> Self {
        let shape = [rows.len(), length];
        let mut tokens = Vec::with_capacity(rows.len() * length);
        let mut is_padding = Vec::with_capacity(rows.len() * length);
        let mut targets = Vec::with_capacity(rows.len() * all.n_targets());
        for &row in &rows {
            let of_row = all.tokens(row);
            is_padding.extend((0..length).map(|i| i >= of_row.len()));
            tokens.extend(of_row.iter().map(|&token| i32::from(token)));
            tokens.resize(is_padding.len(), 0);
            targets.extend_from_slice(all.targets(row));
        }
        Self {
            tokens,
            is_padding,
            targets,
            shape,
            rows,
        }
    }

    fn into_batch<B: Backend>(self, step: u64, device: &B::Device) -> LabelledBatch<B> {
        let [n_rows, _] = self.shape;
        let n_targets = self.targets.len() / n_rows.max(1);
        let targets = TensorData::new(self.targets, [n_rows, n_targets]);
        LabelledBatch {
            tokens: Tensor::from_data(TensorData::new(self.tokens, self.shape), device),
            mask_pad: Tensor::from_data(TensorData::new(self.is_padding, self.shape), device),
            targets: Tensor::from_data(targets, device),
            rows: self.rows,
            step,
        }
    }
}

/// Length of the longest of some rows.
fn longest(all: &LabelledRows, rows: impl Iterator<Item = usize>) -> usize {
    rows.map(|row| all.tokens(row).len()).max().unwrap_or(0)
}

impl BatchSource for LabelledRows {
    type Host = HostRows;
    type Batch<B: Backend> = LabelledBatch<B>;

    fn read(&self, numbers: Range<u64>) -> HostRows {
        let rows: Vec<usize> = numbers.map(|number| number as usize).collect();
        let length = longest(self, rows.iter().copied());
        HostRows::read(self, rows, length)
    }

    fn batch<B: Backend>(host: HostRows, step: u64, device: &B::Device) -> LabelledBatch<B> {
        host.into_batch(step, device)
    }
}

/// Endless passes over rows, each in a new order.
#[derive(Clone, Debug)]
pub struct ShuffledRows {
    rows: LabelledRows,
    permutations: Arc<Permutations>,
    batch_size: u64,
}

impl ShuffledRows {
    fn row(&self, number: u64) -> usize {
        self.permutations.sample(number).item
    }
}

impl BatchSource for ShuffledRows {
    type Host = HostRows;
    type Batch<B: Backend> = LabelledBatch<B>;

    /// Pads to the length of the whole batch, even when only some of its rows are read.
    fn read(&self, numbers: Range<u64>) -> HostRows {
        let first = numbers.start / self.batch_size * self.batch_size;
        let batch = (first..first + self.batch_size).map(|number| self.row(number));
        let length = longest(&self.rows, batch);
        let rows = numbers.map(|number| self.row(number)).collect();
        HostRows::read(&self.rows, rows, length)
    }

    fn batch<B: Backend>(host: HostRows, step: u64, device: &B::Device) -> LabelledBatch<B> {
        host.into_batch(step, device)
    }
}

impl TrainLoaderConfig {
    /// A loader of labelled rows, before step 0: one pass over them after the other, each in a new
    /// order. Rows keep their own length; `window_length` is not used.
    ///
    /// # Errors
    /// [`NoSequences`](SizeError::NoSequences), [`ZeroBatchSize`](SizeError::ZeroBatchSize),
    /// [`ZeroStepsPerEpoch`](SizeError::ZeroStepsPerEpoch) or
    /// [`EpochTooLong`](SizeError::EpochTooLong).
    pub fn init_labelled<B: Backend>(
        &self,
        rows: &LabelledRows,
        device: &B::Device,
    ) -> Result<TrainLoader<B, ShuffledRows>, DatasetError> {
        if rows.is_empty() {
            return Err(SizeError::NoSequences.into());
        }
        let source = ShuffledRows {
            rows: rows.clone(),
            permutations: Arc::new(Permutations::new(self.seed, rows.len(), 0)),
            batch_size: self.batch_size as u64,
        };
        self.loader_of(source, device)
    }
}

impl EvalLoaderConfig {
    /// A loader of labelled rows, in order. Rows keep their length; `window_length` is unused.
    ///
    /// # Errors
    /// [`NoSequences`](SizeError::NoSequences), [`ZeroBatchSize`](SizeError::ZeroBatchSize) or
    /// [`ZeroMaxWindows`](SizeError::ZeroMaxWindows).
    pub fn init_labelled<B: Backend>(
        &self,
        rows: &LabelledRows,
        device: &B::Device,
    ) -> Result<EvalLoader<B, LabelledRows>, DatasetError> {
        let n_rows = self.max_windows.unwrap_or(usize::MAX).min(rows.len());
        match (self.batch_size, self.max_windows, n_rows) {
            (0, ..) => Err(SizeError::ZeroBatchSize.into()),
            (_, Some(0), _) => Err(SizeError::ZeroMaxWindows.into()),
            (.., 0) => Err(SizeError::NoSequences.into()),
            _ => Ok(EvalLoader::new(
                rows.clone(),
                n_rows,
                self.batch_size,
                device,
            )),
        }
    }
}
