//! A step of training by all devices of a group.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use burn::module::Module;
use burn::optim::GradientsAccumulator;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::train::{TrainOutput, TrainStep};
use reformer_core::ConfigError;
use reformer_core::kernels::ReformerBackend;

use super::error::ParallelError;
use super::gradients::Contribution;
use super::group::Group;
use crate::batch::Batch;
use crate::clip::{global_norm, scaled};
use crate::metric::LmOutput;
use crate::task::{Task, joined, share};

/// The devices that compute a step: those of this node, and those of the others if there are any.
#[derive(Debug, Clone)]
pub(crate) struct Replicas<B: Backend> {
    /// The first one has the optimizer.
    devices: Vec<B::Device>,
    group: Arc<Mutex<Option<Group>>>,
    /// Numbers of the devices of this node among all.
    numbers: Range<usize>,
    n_replicas: usize,
}

/// The rows, of so many, that `numbers` of `n_replicas` have.
fn rows_of(n_rows: usize, numbers: &Range<usize>, n_replicas: usize) -> Range<usize> {
    n_rows * numbers.start / n_replicas..n_rows * numbers.end / n_replicas
}

impl<B: Backend> Replicas<B> {
    /// Devices of this node, and the group that it is in.
    ///
    /// # Panics
    /// Without a device.
    pub(crate) fn new(devices: &[B::Device], group: Option<Group>) -> Self {
        assert!(!devices.is_empty(), "a step needs a device");
        let (numbers, n_replicas) = match &group {
            Some(group) => (group.replicas.clone(), group.n_replicas),
            None => (0..devices.len(), devices.len()),
        };
        Self {
            devices: devices.to_vec(),
            group: Arc::new(Mutex::new(group)),
            numbers,
            n_replicas,
        }
    }

    /// Rows of a batch that this node computes.
    ///
    /// # Errors
    /// A batch with fewer rows than there are devices.
    pub(crate) fn rows(&self, batch_size: usize) -> Result<Range<usize>, ConfigError> {
        if batch_size < self.n_replicas {
            return Err(ConfigError::new(
                "batch_size",
                batch_size,
                format!("each of {} devices needs a row", self.n_replicas),
                "raise it, or take fewer devices",
            ));
        }
        Ok(rows_of(batch_size, &self.numbers, self.n_replicas))
    }

    fn group(&self) -> MutexGuard<'_, Option<Group>> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the first node to end the run.
    ///
    /// # Errors
    /// The end, or whatever comes instead.
    ///
    /// # Panics
    /// Without other nodes.
    pub(super) fn wait(&self) -> Result<Infallible, ParallelError> {
        self.group()
            .as_ref()
            .expect("a member is in a group")
            .wait()
    }

    /// Tells the other nodes that the run is over, and why.
    pub(crate) fn end(&self, reason: &str) {
        if let Some(group) = self.group().take() {
            group.end(reason);
        }
    }

    /// Tells the other nodes that this one cannot go on, and why.
    pub(crate) fn give_up(&self, reason: &str) {
        if let Some(group) = self.group().take() {
            group.give_up(reason);
        }
    }
}

impl<B> Replicas<B>
where
    B: AutodiffBackend + ReformerBackend,
    B::InnerBackend: ReformerBackend,
{
    /// Loss and gradients of a whole batch, of which `batch` has the [rows](Self::rows) of this node.
    /// The same on all nodes.
    pub(crate) fn step(
        &self,
        task: &Task<B>,
        batch: Batch<B>,
    ) -> Result<TrainOutput<LmOutput<B::InnerBackend>>, ParallelError> {
        let mut output = self.step_of_node(task, batch);
        let group = self.group();
        if let Some(group) = group.as_ref() {
            let own = Contribution::new::<B, _>(&output.item.loss, &output.grads, task);
            let sum = group.sum(own)?;
            let device = &self.devices[0];
            (output.item.loss, output.grads) = sum.into_means::<B, _>(output.grads, task, device);
        }
        if self.n_replicas > 1 {
            output.item.gradient_norm = global_norm(task, &output.grads);
        }
        Ok(output)
    }

    /// The same of the rows of this node. Nothing waits for a device before all have their work.
    fn step_of_node(
        &self,
        task: &Task<B>,
        batch: Batch<B>,
    ) -> TrainOutput<LmOutput<B::InnerBackend>> {
        let started = Instant::now();
        let first = self.numbers.start;
        let [main, others @ ..] = self.devices.as_slice() else {
            unreachable!("a device at least");
        };
        if others.is_empty() {
            return task.clone().of_replica(first).step(batch);
        }
        let [batch_size, _] = batch.targets().dims();
        let rows = |number| rows_of(batch_size, &(number..number + 1), self.devices.len());
        let outputs: Vec<_> = (0..self.devices.len())
            // Batches of pairs can have fewer rows than there are devices.
            .filter(|&number| !rows(number).is_empty())
            .map(|number| {
                let device = &self.devices[number];
                let part = batch.rows(rows(number)).to_device(device);
                let replica = match number {
                    0 => task.clone(),
                    _ => task.clone().fork(device),
                };
                replica.of_replica(first + number).step(part)
            })
            .collect();
        let n_targets = outputs
            .iter()
            .map(|output| output.item.loss.n_targets.clone().to_device(main))
            .reduce(|sum, n| sum + n)
            .unwrap_or_else(|| unreachable!("a device at least"));
        let mut sum = GradientsAccumulator::new();
        let mut losses = Vec::new();
        for output in outputs {
            let loss = output.item.loss.to_device(main);
            let weight = share(loss.n_targets.clone(), &n_targets);
            let grads = output.grads.to_device(main, task);
            sum.accumulate(task, scaled(task, grads, weight.clone()));
            losses.push((loss, weight));
        }
        TrainOutput {
            grads: sum.grads(),
            item: LmOutput {
                loss: joined(losses, n_targets),
                gradient_norm: None,
                hashing: None,
                started,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    fn replicas(numbers: Range<usize>, n_replicas: usize) -> Replicas<Flex> {
        Replicas {
            numbers,
            n_replicas,
            ..Replicas::new(&[Default::default()], None)
        }
    }

    #[test]
    fn rows_are_shared_out_without_gap() {
        for n_replicas in 1..6 {
            for batch_size in n_replicas..14 {
                let mut next = 0;
                for number in 0..n_replicas {
                    let of = replicas(number..number + 1, n_replicas);
                    let rows = of.rows(batch_size).unwrap();
                    assert_eq!(rows.start, next);
                    let even = batch_size / n_replicas;
                    assert!((even..=even + 1).contains(&rows.len()));
                    next = rows.end;
                }
                assert_eq!(next, batch_size);
            }
        }
    }

    #[test]
    fn batch_with_fewer_rows_than_devices_is_refused() {
        let error = replicas(0..1, 3).rows(2).unwrap_err();
        assert_eq!(
            (error.field.as_str(), error.value.as_str()),
            ("batch_size", "2")
        );
    }
}
