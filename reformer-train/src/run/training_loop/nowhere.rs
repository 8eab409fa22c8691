//! Checkpointer and log of processes that do not own the run.

use burn::record::Record;
use burn::tensor::backend::Backend;
use burn::train::LearningCheckpointer;
use burn::train::checkpoint::{
    AsyncCheckpointer, Checkpointer, CheckpointerError, CheckpointingAction, CheckpointingStrategy,
};
use burn::train::logger::MetricLogger;
use burn::train::metric::store::{EpochSummary, EventStoreClient, MetricsUpdate, Split};
use burn::train::metric::{MetricDefinition, NumericEntry};
use reformer_core::kernels::TrainBackend;

use super::Components;
use crate::task::run_model::RunModel;

/// Takes part in every checkpoint and keeps none: with a sharded optimizer state,
/// all processes have to send their shards.
pub(super) fn checkpointer<B: TrainBackend, M: RunModel<B>>()
-> LearningCheckpointer<Components<B, M>> {
    LearningCheckpointer::new(
        AsyncCheckpointer::new(Nowhere),
        AsyncCheckpointer::new(Nowhere),
        AsyncCheckpointer::new(Nowhere),
        Box::new(Nowhere),
    )
}

struct Nowhere;

impl<R: Record<B>, B: Backend> Checkpointer<R, B> for Nowhere {
    fn save(&self, _step: usize, _record: R) -> Result<(), CheckpointerError> {
        Ok(())
    }

    fn delete(&self, _step: usize) -> Result<(), CheckpointerError> {
        Ok(())
    }

    fn restore(&self, _step: usize, _device: &B::Device) -> Result<R, CheckpointerError> {
        Err(CheckpointerError::Unknown("nothing is kept".to_owned()))
    }
}

impl CheckpointingStrategy for Nowhere {
    fn checkpointing(
        &mut self,
        _step: usize,
        _store: &EventStoreClient,
    ) -> Vec<CheckpointingAction> {
        vec![CheckpointingAction::Save]
    }
}

/// A log that discards everything.
pub(crate) struct NoLog;

impl MetricLogger for NoLog {
    fn log(&mut self, _update: MetricsUpdate, _epoch: usize, _split: &Split) {}

    fn read_numeric(
        &mut self,
        _name: &str,
        _epoch: usize,
        _split: &Split,
    ) -> Result<Vec<NumericEntry>, String> {
        Ok(vec![])
    }

    fn log_metric_definition(&mut self, _definition: MetricDefinition) {}

    fn log_epoch_summary(&mut self, _summary: EpochSummary) {}
}
