//! A data loader that ends at the last step of a run.

use std::marker::PhantomData;
use std::sync::Arc;

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::tensor::backend::Backend;

use crate::data::batch::Batch;

/// The batches of another loader before a step, so that the last epoch of a run can be shorter.
pub(crate) struct UpTo<B: Backend, T> {
    loader: Arc<dyn DataLoader<B, T>>,
    end: u64,
}

impl<B: Backend, T> UpTo<B, T> {
    /// The batches of `loader` whose step is below `end`.
    pub(crate) fn new(loader: Arc<dyn DataLoader<B, T>>, end: u64) -> Self {
        Self { loader, end }
    }
}

impl<B: Backend, T: Into<Batch<B>> + 'static> DataLoader<B, Batch<B>> for UpTo<B, T> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<Batch<B>> + 'a> {
        Box::new(UpToIterator {
            iterator: self.loader.iter(),
            end: self.end,
            backend: PhantomData,
        })
    }

    fn num_items(&self) -> usize {
        self.loader.num_items()
    }

    fn to_device(&self, device: &B::Device) -> Arc<dyn DataLoader<B, Batch<B>>> {
        Arc::new(Self::new(self.loader.to_device(device), self.end))
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<B, Batch<B>>> {
        Arc::new(Self::new(self.loader.slice(start, end), self.end))
    }
}

struct UpToIterator<'a, B, T> {
    iterator: Box<dyn DataLoaderIterator<T> + 'a>,
    end: u64,
    backend: PhantomData<B>,
}

impl<B: Backend, T: Into<Batch<B>>> Iterator for UpToIterator<'_, B, T> {
    type Item = Batch<B>;

    fn next(&mut self) -> Option<Batch<B>> {
        let batch = self.iterator.next()?.into();
        (batch.step() < self.end).then_some(batch)
    }
}

impl<B: Backend, T: Into<Batch<B>>> DataLoaderIterator<Batch<B>> for UpToIterator<'_, B, T> {
    fn progress(&self) -> Progress {
        self.iterator.progress()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;
    use reformer_datasets::{ByteCorpus, LmBatch, TrainLoaderConfig};

    #[test]
    fn last_epoch_ends_with_the_run() {
        let split = ByteCorpus::sample().split().train;
        let device = Default::default();
        let loader = TrainLoaderConfig::new(16, 2, 4)
            .init::<Flex>(&split, &device)
            .unwrap();
        let loader: Arc<dyn DataLoader<Flex, LmBatch<Flex>>> = Arc::new(loader);
        let loader = UpTo::new(loader, 6);
        let epoch = || loader.iter().map(|batch| batch.step()).collect::<Vec<_>>();
        assert_eq!(epoch(), [0, 1, 2, 3]);
        assert_eq!(epoch(), [4, 5]);
    }
}
