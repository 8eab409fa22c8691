//! A process that takes part in the run of another one.

use std::marker::PhantomData;

use burn::module::Module;
use burn::record::{FullPrecisionSettings, NamedMpkBytesRecorder, Record, Recorder};
use burn::tensor::backend::Backend;
use reformer_core::kernels::TrainBackend;
use serde::{Deserialize, Serialize};

use crate::config::TrainConfig;
use crate::error::{ParallelError, TrainError};
use crate::parallel::{Group, Sharing};
use crate::run::checkpoint::Checkpoints;
use crate::run::setup::{Fit, Place};
use crate::run::training_loop::Ending;
use crate::run::{Standing, TrainOptions};
use crate::screen::Silent;
use crate::task::model::Model;
use crate::task::run_model::RunModel;

/// The result of a run in a process that does not own it.
#[derive(Debug)]
pub struct MemberOutcome<B: Backend, M = Model<B>> {
    /// The weights, equal to those of the first process after the last step.
    pub model: M,
    /// How the run ended.
    pub ending: Ending,
    backend: PhantomData<B>,
}

/// What the first process sends to the others about its run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunMessage {
    pub(crate) config: TrainConfig,
    /// Training steps that are done.
    pub(crate) step: usize,
    pub(crate) standing: Standing,
    pub(crate) sharing: Sharing,
}

/// A process that takes part in the run of the first one: it computes its rows of each batch and each
/// evaluation and keeps the same weights, but writes nothing.
#[derive(Debug)]
pub struct Member {
    group: Group,
    message: RunMessage,
}

/// Sends the other processes the run and the [`state`] to start from, or that there is nothing to
/// train.
pub(crate) fn send_run(
    group: &Group,
    run: Option<(&RunMessage, [Vec<u8>; 3])>,
) -> Result<(), ParallelError> {
    let Some((message, state)) = run else {
        return group.broadcast(0, &mut Vec::new());
    };
    // MessagePack keeps every bit of a number.
    let mut message = rmp_serde::to_vec_named(message).expect("plain data with text for keys");
    group.broadcast(0, &mut message)?;
    for mut part in state {
        group.broadcast(0, &mut part)?;
    }
    Ok(())
}

impl Member {
    /// Waits for the run of the first process. `None` if there is nothing to train.
    ///
    /// # Errors
    /// A first process of another version, or one that does not arrive.
    ///
    /// # Panics
    /// In the first process.
    pub fn wait(group: &Group) -> Result<Option<Self>, ParallelError> {
        assert!(!group.is_first(), "the first process has the run");
        let mut bytes = Vec::new();
        group.broadcast(0, &mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let message = rmp_serde::from_slice(&bytes).map_err(|error| protocol(&error))?;
        let group = group.clone();
        Ok(Some(Self { group, message }))
    }

    /// The configuration of the run. Paths of data must be valid on this machine too.
    pub fn config(&self) -> &TrainConfig {
        &self.message.config
    }

    /// Training steps that are done.
    pub fn step(&self) -> usize {
        self.message.step
    }

    /// Trains to the end of the run. Of the options, only the interrupter and the sample writer are used.
    ///
    /// # Errors
    /// Data or a device that is missing on this machine, or a process that does not arrive. The caller
    /// must report it and call [`abort`](crate::parallel::abort).
    ///
    /// # Panics
    /// Without a device.
    pub fn train_on<B: TrainBackend>(
        self,
        devices: &[B::Device],
        options: TrainOptions<B>,
    ) -> Result<MemberOutcome<B::InnerBackend>, TrainError> {
        self.train_model::<B, Model<B>>(devices, options)
    }

    /// As [`train_on`](Self::train_on), with any model. Its data is not that of the program.
    ///
    /// # Errors
    /// The same, and a run of another model.
    ///
    /// # Panics
    /// Without a device.
    pub fn train_model<B: TrainBackend, M: RunModel<B>>(
        self,
        devices: &[B::Device],
        mut options: TrainOptions<B, Silent, M::InnerModule>,
    ) -> Result<MemberOutcome<B::InnerBackend, M::InnerModule>, TrainError> {
        let RunMessage {
            config,
            step,
            standing,
            sharing,
        } = self.message;
        let mut state = [(); 3].map(|()| Vec::new());
        for part in &mut state {
            self.group.broadcast(0, part)?;
        }
        config.validate()?;
        config.model.precision().check::<B>(&devices[0])?;
        let data = config.data.open(config.wanted(), None)?;
        data.check(&config)?;
        options.group = Some(self.group);
        options.sharing = sharing;
        // The first process reports warnings.
        options.warn = |_| {};
        let fit = Fit::<B, M, _> {
            place: Place::Elsewhere(Box::new(state)),
            config: &config,
            data: &data,
            standing,
            devices,
            step,
            options,
        };
        let fitted = fit.run()?;
        Ok(MemberOutcome {
            model: fitted.task.model,
            ending: fitted.ending,
            backend: PhantomData,
        })
    }
}

fn protocol(error: &impl std::fmt::Display) -> ParallelError {
    ParallelError::Protocol {
        rank: 0,
        reason: format!("it cannot be read: {error}"),
    }
}

/// The state that the other processes start from: the parts of a checkpoint, or the initial weights
/// of a new run.
pub(crate) fn state<B: TrainBackend>(
    task: &impl Module<B>,
    checkpoints: &Checkpoints,
    step: usize,
) -> Result<[Vec<u8>; 3], TrainError> {
    if step > 0 {
        return checkpoints.bytes(step);
    }
    let recorder = NamedMpkBytesRecorder::<FullPrecisionSettings>::default();
    let record = task.clone().into_record();
    let weights = Recorder::<B>::record(&recorder, record, ());
    let weights = weights.unwrap_or_else(|error| panic!("weights are plain numbers: {error}"));
    Ok([weights, Vec::new(), Vec::new()])
}

/// A part of a [`state`] as a record; `None` for parts that a new run does not have.
pub(crate) fn record<B: Backend, R: Record<B>>(
    bytes: Vec<u8>,
    device: &B::Device,
) -> Result<Option<R>, ParallelError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let recorder = NamedMpkBytesRecorder::<FullPrecisionSettings>::default();
    let record = Recorder::<B>::load(&recorder, bytes, device);
    record.map(Some).map_err(|error| protocol(&error))
}
