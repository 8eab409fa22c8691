//! The batches of a run, for inspection.

use burn::tensor::backend::{AutodiffBackend, Backend};

use super::Run;
use crate::data::batch::Batch;
use crate::error::TrainError;

impl Run {
    /// Passes the batches that the run trains on to a function, from the first on, at most `n`.
    ///
    /// # Errors
    /// Settings that the data loader does not allow.
    pub fn each_train_batch<B: AutodiffBackend>(
        &self,
        device: &B::Device,
        most: usize,
        mut take: impl FnMut(Batch<B>),
    ) -> Result<(), TrainError> {
        let rows = 0..self.config.batch_size;
        let steps = self.config.steps.min(most);
        for step in (0..steps).step_by(self.config.steps_per_epoch) {
            let epoch = self
                .data
                .train_loader::<B>(&self.config, step, rows.clone(), device)?;
            let of_epoch = self.config.steps_per_epoch.min(steps - step);
            epoch.iter().take(of_epoch).for_each(&mut take);
        }
        Ok(())
    }

    /// Passes the batches that the run validates on to a function.
    ///
    /// # Errors
    /// Settings that the data loader does not allow.
    pub fn each_valid_batch<B: Backend>(
        &self,
        device: &B::Device,
        take: impl FnMut(Batch<B>),
    ) -> Result<(), TrainError> {
        let loader = self.data.valid_loader::<B>(&self.config, device)?;
        loader.iter().for_each(take);
        Ok(())
    }
}
