//! A training step on all devices of a run.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsAccumulator;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::train::{Interrupter, TrainOutput, TrainStep};
use reformer_core::ConfigError;
use reformer_core::kernels::TrainBackend;
use reformer_core::model::LossOutput;
use xxhash_rust::xxh3::Xxh3Default;

use super::Sharing;
use super::gradients::Adder;
use super::group::Group;
use crate::data::batch::Batch;
use crate::error::ParallelError;
use crate::metrics::StepOutput;
use crate::optimizer::clip::{global_norm, scaled};
use crate::task::run_model::RunModel;
use crate::task::{Task, joined, share};

/// The devices that compute a step: those of this process, and those of the other processes.
#[derive(Clone)]
pub(crate) struct Replicas<B: Backend> {
    /// The first one holds the optimizer.
    devices: Vec<B::Device>,
    group: Option<Group>,
    /// Indices of the devices of this process among all.
    numbers: Range<usize>,
    n_replicas: usize,
    adder: Arc<Mutex<Adder>>,
    interrupter: Interrupter,
    /// Why all processes stop, after a request of one of them.
    agreed: Arc<Mutex<Option<String>>>,
}

/// The rows of devices `numbers` among `n_replicas`, of a batch of `n_rows`.
fn rows_of(n_rows: usize, numbers: &Range<usize>, n_replicas: usize) -> Range<usize> {
    n_rows * numbers.start / n_replicas..n_rows * numbers.end / n_replicas
}

impl<B: Backend> Replicas<B> {
    /// Devices of this process and its group. The interrupter is that of this process.
    ///
    /// # Errors
    /// A process that does not arrive.
    ///
    /// # Panics
    /// Without a device.
    pub(crate) fn new(
        devices: &[B::Device],
        group: Option<Group>,
        sharing: Sharing,
        interrupter: &Interrupter,
    ) -> Result<Self, ParallelError> {
        assert!(!devices.is_empty(), "a step needs a device");
        let (mut numbers, mut n_replicas) = (0..devices.len(), devices.len());
        if let Some(group) = &group {
            let counts = group.gather(&[devices.len() as f64])?;
            let before = |rank: usize| counts[..rank].iter().map(|n| *n as usize).sum();
            numbers = before(group.rank())..before(group.rank() + 1);
            n_replicas = before(counts.len());
        }
        Ok(Self {
            devices: devices.to_vec(),
            group,
            numbers,
            n_replicas,
            adder: Arc::new(Mutex::new(Adder::new(sharing.half_gradients))),
            interrupter: interrupter.clone(),
            agreed: Arc::default(),
        })
    }

    /// The processes that train together, if there are several.
    pub(crate) fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// Whether this process owns the run.
    pub(crate) fn is_first(&self) -> bool {
        self.group.as_ref().is_none_or(Group::is_first)
    }

    /// Rows of a batch that this process computes.
    ///
    /// # Errors
    /// A batch with fewer rows than there are devices.
    pub(crate) fn rows(&self, batch_size: usize) -> Result<Range<usize>, ConfigError> {
        if batch_size < self.n_replicas {
            return Err(ConfigError::new(
                "batch_size",
                batch_size,
                format!("each of {} devices needs a row", self.n_replicas),
                "raise it, or use fewer devices",
            ));
        }
        Ok(rows_of(batch_size, &self.numbers, self.n_replicas))
    }

    /// Rows of an evaluation that this process computes, on its first device.
    pub(crate) fn evaluated_rows(&self, n_rows: usize) -> Range<usize> {
        match &self.group {
            Some(group) => rows_of(n_rows, &(group.rank()..group.rank() + 1), group.size()),
            None => 0..n_rows,
        }
    }

    /// Whether this process was asked to stop.
    pub(crate) fn wants_to_stop(&self) -> bool {
        self.interrupter.should_stop()
    }

    /// Why the run was stopped, if it was: all processes return the same after the same step.
    pub(crate) fn stopped(&self) -> Option<String> {
        match self.group {
            Some(_) => lock(&self.agreed).clone(),
            None => self.wants_to_stop().then(|| self.reason()),
        }
    }

    /// Why this process was asked to stop.
    fn reason(&self) -> String {
        let message = self.interrupter.get_message();
        message.unwrap_or_else(|| "stopped".to_owned())
    }

    /// Gathers the values of all processes, in the order of ranks, and requests to stop.
    fn meet<const N: usize>(
        &self,
        group: &Group,
        own: [f64; N],
    ) -> Result<Vec<[f64; N]>, ParallelError> {
        let mut words = own.to_vec();
        words.push(self.wants_to_stop().into());
        let all = group.gather(&words)?;
        let of_process = |rank: usize| &all[rank * words.len()..][..words.len()];
        let wants_to_stop = |rank: &usize| of_process(*rank)[N] > 0.0;
        if let Some(rank) = (0..group.size()).find(wants_to_stop) {
            let reason = match wants_to_stop(&group.rank()) {
                true => self.reason(),
                false => format!("process {rank} was asked to stop."),
            };
            lock(&self.agreed).get_or_insert(reason);
        }
        let of_process = |rank| std::array::from_fn(|i| of_process(rank)[i]);
        Ok((0..group.size()).map(of_process).collect())
    }

    /// The sums over all processes; the own values, if there is only one.
    pub(crate) fn total<const N: usize>(&self, own: [f64; N]) -> Result<[f64; N], ParallelError> {
        let Some(group) = &self.group else {
            return Ok(own);
        };
        let all = self.meet(group, own)?;
        let sum = |i: usize| all.iter().map(|one| one[i]).sum();
        Ok(std::array::from_fn(sum))
    }

    /// Sends a text that the last process writes to all: the first one has other work.
    pub(crate) fn written(
        &self,
        write: impl FnOnce() -> Option<String>,
    ) -> Result<Option<String>, ParallelError> {
        let Some(group) = &self.group else {
            return Ok(write());
        };
        let last = group.size() - 1;
        let text = match group.rank() == last {
            true => write(),
            false => None,
        };
        let mut bytes = serde_json::to_vec(&text).expect("a text is plain data");
        group.broadcast(last, &mut bytes)?;
        serde_json::from_slice(&bytes).map_err(|error| ParallelError::Protocol {
            rank: last,
            reason: error.to_string(),
        })
    }

    /// Checks that the weights after a step are the same in all processes.
    pub(crate) fn check_same(
        &self,
        module: &impl Module<B>,
        step: usize,
    ) -> Result<(), ParallelError> {
        match &self.group {
            Some(group) if group.size() > 1 => {
                let mut hash = Hash::default();
                module.visit(&mut hash);
                group.check_same(hash.0.digest(), step)
            }
            _ => Ok(()),
        }
    }

    /// An error between processes in a function that could not return it.
    pub(crate) fn failed(&self) -> Result<(), ParallelError> {
        self.group.as_ref().map_or(Ok(()), Group::failed)
    }
}

/// A loss, and the factor of its gradients, `[1]`.
type Weighted<B> = (LossOutput<B>, Tensor<B, 1>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A hash of all weights.
#[derive(Default)]
struct Hash(Xxh3Default);

impl<B: Backend> ModuleVisitor<B> for Hash {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.0.update(param.val().into_data().as_bytes());
    }
}

impl<B: TrainBackend> Replicas<B> {
    /// Loss and gradients of a whole batch, of which `batch` has the [rows](Self::rows) of this process.
    /// The same in all processes.
    pub(crate) fn step<M: RunModel<B>>(
        &self,
        task: &Task<B, M>,
        batch: Batch<B>,
    ) -> Result<TrainOutput<StepOutput<B::InnerBackend>>, ParallelError> {
        let mut output = self.step_of_process(task, batch);
        if let Some(group) = &self.group {
            let (loss, weight) = self.loss_of_all(group, &output.item.loss)?;
            output.item.loss = loss;
            // The sum of gradients weighted before is their mean.
            let grads = scaled(task, output.grads, weight);
            output.grads = lock(&self.adder).sum(group, task, grads)?;
        }
        if self.n_replicas > 1 {
            output.item.gradient_norm = global_norm(task, &output.grads);
        }
        Ok(output)
    }

    /// The loss over all processes from that of this one, and its share of the targets.
    fn loss_of_all(
        &self,
        group: &Group,
        own: &LossOutput<B::InnerBackend>,
    ) -> Result<Weighted<B::InnerBackend>, ParallelError> {
        let [loss, n_correct, n_targets] = [&own.loss, &own.n_correct, &own.n_targets].map(number);
        let drift = own.drift.as_ref().map_or(f64::NAN, number);
        let all = self.meet(group, [loss * n_targets, n_correct, n_targets, drift])?;
        let sum = |i: usize| all.iter().map(|one| one[i]).sum::<f64>();
        // Sums over no target are 0, and so are their means.
        let divisor = sum(2).max(1.0);
        let one = |value: f64| Tensor::from_data([value as f32], &self.devices[0]);
        let drift = all.iter().map(|one| one[3]).fold(f64::NAN, f64::max);
        let loss = LossOutput {
            loss: one(sum(0) / divisor),
            n_correct: one(sum(1)),
            n_targets: one(sum(2)),
            drift: (!drift.is_nan()).then(|| one(drift)),
        };
        Ok((loss, one(n_targets / divisor)))
    }

    /// The same for the rows of this process. No device is waited for before all have their work.
    fn step_of_process<M: RunModel<B>>(
        &self,
        task: &Task<B, M>,
        batch: Batch<B>,
    ) -> TrainOutput<StepOutput<B::InnerBackend>> {
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
            item: StepOutput {
                loss: joined(losses, n_targets),
                gradient_norm: None,
                hashing: None,
                started,
            },
        }
    }
}

fn number<B: Backend>(tensor: &Tensor<B, 1>) -> f64 {
    tensor.to_data().iter::<f64>().next().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    fn replicas(numbers: Range<usize>, n_replicas: usize) -> Replicas<Flex> {
        Replicas {
            numbers,
            n_replicas,
            ..Replicas::new(
                &[Default::default()],
                None,
                Sharing::default(),
                &Interrupter::new(),
            )
            .unwrap()
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
