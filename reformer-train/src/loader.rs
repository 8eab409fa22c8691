//! A data loader that ends with the run.

use std::sync::Arc;

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::tensor::backend::Backend;
use reformer_datasets::LmBatch;

/// The batches of another loader up to a step, so that the last epoch of a run can be shorter.
pub(crate) struct UpTo<B: Backend> {
    loader: Arc<dyn DataLoader<B, LmBatch<B>>>,
    end: u64,
}

impl<B: Backend> UpTo<B> {
    /// Those of `loader` whose step is below `end`.
    pub(crate) fn new(loader: Arc<dyn DataLoader<B, LmBatch<B>>>, end: u64) -> Self {
        Self { loader, end }
    }
}

impl<B: Backend> DataLoader<B, LmBatch<B>> for UpTo<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<LmBatch<B>> + 'a> {
        Box::new(UpToIterator {
            iterator: self.loader.iter(),
            end: self.end,
        })
    }

    fn num_items(&self) -> usize {
        self.loader.num_items()
    }

    fn to_device(&self, device: &B::Device) -> Arc<dyn DataLoader<B, LmBatch<B>>> {
        Arc::new(Self::new(self.loader.to_device(device), self.end))
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<B, LmBatch<B>>> {
        Arc::new(Self::new(self.loader.slice(start, end), self.end))
    }
}

struct UpToIterator<'a, B: Backend> {
    iterator: Box<dyn DataLoaderIterator<LmBatch<B>> + 'a>,
    end: u64,
}

impl<B: Backend> Iterator for UpToIterator<'_, B> {
    type Item = LmBatch<B>;

    fn next(&mut self) -> Option<LmBatch<B>> {
        self.iterator.next().filter(|batch| batch.step < self.end)
    }
}

impl<B: Backend> DataLoaderIterator<LmBatch<B>> for UpToIterator<'_, B> {
    fn progress(&self) -> Progress {
        self.iterator.progress()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;
    use reformer_datasets::{ByteCorpus, TrainLoaderConfig};

    #[test]
    fn last_epoch_ends_with_the_run() {
        let split = ByteCorpus::sample().split().train;
        let device = Default::default();
        let loader = TrainLoaderConfig::new(16, 2, 4)
            .init::<Flex>(&split, &device)
            .unwrap();
        let loader = UpTo::new(Arc::new(loader), 6);
        let epoch = || loader.iter().map(|batch| batch.step).collect::<Vec<_>>();
        assert_eq!(epoch(), [0, 1, 2, 3]);
        assert_eq!(epoch(), [4, 5]);
    }
}
