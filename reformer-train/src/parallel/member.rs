//! A node that helps with the run of another one.

use burn::lr_scheduler::LrScheduler;
use burn::module::{AutodiffModule, Module};
use burn::optim::Optimizer;
use burn::record::{FullPrecisionSettings, NamedMpkBytesRecorder, Record, Recorder};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::train::Interrupter;
use reformer_core::kernels::ReformerBackend;

use super::error::ParallelError;
use super::group::{Group, Patience, Welcome, join};
use super::replicas::Replicas;
use crate::batch::Batch;
use crate::checkpoint::Checkpoints;
use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::loss_scale::{LossScale, WithLossScale};
use crate::model::Model;
use crate::optimizer::RunOptimizer;
use crate::schedule::Schedule;
use crate::strategy::numbers;
use crate::task::Task;

/// What a node has at the end of a run that it helped with.
#[derive(Debug)]
pub struct Helped<B: Backend> {
    /// The weights, which are those of the first node.
    pub model: Model<B>,
    /// How the run ended.
    pub reason: String,
}

/// A node that has joined the run of a [`Coordinator`](super::Coordinator): it computes its rows of
/// each batch and keeps the same weights, but neither evaluates nor writes.
#[derive(Debug)]
pub struct Member {
    group: Group,
    welcome: Welcome,
}

impl Member {
    /// Joins the run whose first node listens at an address, with so many devices, and waits until
    /// all nodes are there.
    ///
    /// # Errors
    /// An address without a run, a run of another version, or one that ended while it waited.
    pub fn join(
        address: &str,
        n_devices: usize,
        patience: Patience,
    ) -> Result<Self, ParallelError> {
        let (group, welcome) = join(address, n_devices, patience)?;
        Ok(Self { group, welcome })
    }

    /// The configuration of the run. Paths of data must be valid on this machine too.
    pub fn config(&self) -> &TrainConfig {
        &self.welcome.config
    }

    /// Training steps that are done.
    pub fn step(&self) -> usize {
        self.welcome.step
    }

    /// Trains until the first node ends the run. `watch` is told of each step and its loss.
    ///
    /// # Errors
    /// Data or a device that this machine does not have, or a node that is lost. The other nodes are
    /// told.
    ///
    /// # Panics
    /// With another number of devices than it joined with.
    pub fn train<B>(
        self,
        devices: &[B::Device],
        interrupter: &Interrupter,
        watch: impl FnMut(usize, f64),
    ) -> Result<Helped<B::InnerBackend>, TrainError>
    where
        B: AutodiffBackend + ReformerBackend,
        B::InnerBackend: ReformerBackend,
    {
        assert_eq!(
            devices.len(),
            self.welcome.replicas.len(),
            "devices of this node"
        );
        let state = [(); 3].map(|()| self.group.receive_state());
        let replicas = Replicas::<B>::new(devices, Some(self.group));
        let Welcome { config, step, .. } = self.welcome;
        let helped = Learning::new(config, step, state, &devices[0])
            .and_then(|learning| learning.run(&replicas, interrupter, watch));
        helped.inspect_err(|error| replicas.give_up(&error.to_string()))
    }
}

/// A part of a state, as it came.
type Received = Result<Vec<u8>, ParallelError>;

/// What changes from step to step, and what it is made of.
struct Learning<B: AutodiffBackend + ReformerBackend>
where
    B::InnerBackend: ReformerBackend,
{
    config: TrainConfig,
    device: B::Device,
    /// Training steps that are done.
    step: usize,
    task: Task<B>,
    optimizer: WithLossScale<RunOptimizer<Task<B>, B>>,
    schedule: Schedule,
    scale: LossScale,
}

impl<B> Learning<B>
where
    B: AutodiffBackend + ReformerBackend,
    B::InnerBackend: ReformerBackend,
{
    /// The state that the first node goes on from.
    fn new(
        config: TrainConfig,
        step: usize,
        state: [Received; 3],
        device: &B::Device,
    ) -> Result<Self, TrainError> {
        config.validate()?;
        let precision = config.model.reformer().precision;
        precision.check::<B>(device)?;
        let scale = LossScale::new(precision);
        B::seed(device, config.seed);
        let task = Task::new(config.model.init::<B>(device), config.seed);
        let mut learning = Self {
            task: task
                .with_parts(config.accumulate)
                .with_context(config.window_length)
                .with_loss_scale(scale.clone()),
            optimizer: WithLossScale::new(config.init_optimizer(), scale.clone()),
            schedule: config.init_schedule(),
            config,
            device: device.clone(),
            step,
            scale,
        };
        let [model, optimizer, schedule] = state;
        if let Some(record) = learning.record(&model?)? {
            learning.task = learning.task.load_record(record);
        }
        if let Some(record) = learning.record(&optimizer?)? {
            learning.optimizer = Optimizer::<Task<B>, B>::load_record(learning.optimizer, record);
        }
        if let Some(record) = learning.record(&schedule?)? {
            learning.schedule = learning.schedule.load_record::<B>(record);
        }
        Ok(learning)
    }

    /// A record from its bytes; none from no bytes.
    fn record<R: Record<B>>(&self, bytes: &[u8]) -> Result<Option<R>, TrainError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let recorder = NamedMpkBytesRecorder::<FullPrecisionSettings>::default();
        let record = Recorder::<B>::load(&recorder, bytes.to_vec(), &self.device);
        let record = record.map_err(|error| ParallelError::Protocol {
            node: "node 0".to_owned(),
            reason: format!("its state cannot be read: {error}"),
        })?;
        Ok(Some(record))
    }

    /// Trains until something ends it.
    fn run(
        mut self,
        replicas: &Replicas<B>,
        interrupter: &Interrupter,
        watch: impl FnMut(usize, f64),
    ) -> Result<Helped<B::InnerBackend>, TrainError> {
        let done = self.steps(replicas, interrupter, watch);
        match done.and_then(|()| Ok(replicas.wait()?)) {
            Err(TrainError::Parallel(ParallelError::Ended { reason })) => Ok(Helped {
                model: self.task.model.valid(),
                reason,
            }),
            Err(error) => Err(error),
            Ok(never) => match never {},
        }
    }

    /// The steps that are left.
    fn steps(
        &mut self,
        replicas: &Replicas<B>,
        interrupter: &Interrupter,
        mut watch: impl FnMut(usize, f64),
    ) -> Result<(), TrainError> {
        let config = &self.config;
        let data = config.data.open(config, None)?;
        data.check(config)?;
        let rows = replicas.rows(config.batch_size)?;
        let loader = data.train_loader::<B>(config, self.step, rows, &self.device)?;
        while self.step < self.config.steps {
            for batch in loader.iter() {
                if interrupter.should_stop() {
                    return Err(ParallelError::stopped(interrupter).into());
                }
                let loss = self.train_step(replicas, batch)?;
                self.step += 1;
                watch(self.step, loss);
            }
        }
        Ok(())
    }

    /// As the first node does it, which also decides whether steps may be left out at all.
    fn train_step(&mut self, replicas: &Replicas<B>, batch: Batch<B>) -> Result<f64, TrainError> {
        let rate = self.schedule.step();
        let output = replicas.step(&self.task, batch)?;
        let [loss, gradient_norm] = numbers(&output.item);
        let is_finite = loss.is_finite() && gradient_norm.is_finite();
        self.scale.leaves_out(is_finite);
        if is_finite {
            let task = self.task.clone();
            self.task = self.optimizer.step(rate, task, output.grads);
        }
        Ok(loss)
    }
}

/// What a run goes on from, as a member takes it: the parts of a checkpoint, or the weights that a
/// new run starts from.
pub(crate) fn state<B>(
    task: &Task<B>,
    checkpoints: &Checkpoints,
    step: usize,
) -> Result<[Vec<u8>; 3], TrainError>
where
    B: AutodiffBackend + ReformerBackend,
    B::InnerBackend: ReformerBackend,
{
    if step > 0 {
        return checkpoints.bytes(step);
    }
    let recorder = NamedMpkBytesRecorder::<FullPrecisionSettings>::default();
    let record = task.clone().into_record();
    let weights = Recorder::<B>::record(&recorder, record, ());
    let weights = weights.unwrap_or_else(|error| panic!("weights are plain numbers: {error}"));
    Ok([weights, Vec::new(), Vec::new()])
}
