//! Training a run to its end.

use std::marker::PhantomData;

use burn::module::Module;
use burn::record::Recorder;
use burn::tensor::backend::Backend;
use burn::train::renderer::MetricsRenderer;
use reformer_core::kernels::TrainBackend;

use super::load::model_path;
use super::lock::Lock;
use super::{Run, RunOutcome, TrainOptions};
use crate::error::TrainError;
use crate::parallel::check_alone;
use crate::record::{AtomicRecorder, Failure, Owner, numbered};
use crate::run::checkpoint::{Best, Checkpoints};
use crate::run::member::send_run;
use crate::run::setup::{Fit, Fitted, Place};
use crate::run::training_loop::Ending;
use crate::task::model::Model;
use crate::task::run_model::RunModel;

impl Run {
    /// Trains from a step (0: from the start) to the end of the run, and writes the weights to
    /// `model.mpk`. For a run that is [over](Self::ending), it only reads them.
    ///
    /// # Errors
    /// A file that cannot be read, final weights that cannot be written, a loss that is not finite, or
    /// another process that trains the run.
    ///
    /// # Panics
    /// If the checkpoint of that step cannot be read: ask [`resume_point`](Self::resume_point).
    pub fn train<B, R>(
        &self,
        device: &B::Device,
        step: usize,
        options: TrainOptions<B, R>,
    ) -> Result<RunOutcome<B::InnerBackend>, TrainError>
    where
        B: TrainBackend,
        R: MetricsRenderer + 'static,
    {
        self.train_on::<B, R>(core::slice::from_ref(device), step, options)
    }

    /// As [`train`](Self::train), with each device computing some rows of each batch. The first
    /// one also holds the optimizer.
    ///
    /// # Errors
    /// The same, and fewer sequences in a batch than there are devices, or another process of a
    /// [group](TrainOptions::group) that does not arrive. The caller should report the latter, and
    /// call [`abort`](crate::parallel::abort).
    ///
    /// # Panics
    /// Without a device, or if the checkpoint of that step cannot be read.
    pub fn train_on<B, R>(
        &self,
        devices: &[B::Device],
        step: usize,
        options: TrainOptions<B, R>,
    ) -> Result<RunOutcome<B::InnerBackend>, TrainError>
    where
        B: TrainBackend,
        R: MetricsRenderer + 'static,
    {
        self.train_model::<B, Model<B>, R>(devices, step, options)
    }

    /// As [`train_on`](Self::train_on), with any model: a module of a program's own, whose configuration is
    /// [`ModelConfig::Own`](crate::ModelConfig::Own).
    ///
    /// # Errors
    /// The same, and a run of another model.
    ///
    /// # Panics
    /// The same; [`resume_point_of`](Self::resume_point_of) finds a checkpoint that can be read.
    pub fn train_model<B, M, R>(
        &self,
        devices: &[B::Device],
        step: usize,
        options: TrainOptions<B, R, M::InnerModule>,
    ) -> Result<RunOutcome<B::InnerBackend, M::InnerModule>, TrainError>
    where
        B: TrainBackend,
        M: RunModel<B>,
        R: MetricsRenderer + 'static,
    {
        for device in devices {
            self.check_device::<B>(device)?;
        }
        let group = options.group.clone();
        if group.is_none() {
            check_alone()?;
        }
        let _lock = Lock::take(&self.folder)?;
        if let Some(ending) = self.ending()? {
            if let Some(group) = &group {
                send_run(group, None)?;
            }
            return self.outcome::<B, M>(ending, &devices[0]);
        }
        let fit = Fit::<B, M, R> {
            place: Place::Home(self),
            config: &self.config,
            data: &self.data,
            standing: self.standing(step)?,
            devices,
            step,
            options,
        };
        let Fitted { task, ending, best } = fit.run()?;
        let task = match (&ending, best) {
            (Ending::Early, Some(best)) => {
                let path = Checkpoints::of_run(&self.folder).model(best.step);
                AtomicRecorder::load_module(&path, task, &self.owner(), &devices[0])?
            }
            _ => task,
        };
        self.finish(task.model, ending, best)
    }

    /// Saves the final weights of a run.
    fn finish<B: Backend, M: Module<B>>(
        &self,
        model: M,
        ending: Ending,
        best: Option<Best>,
    ) -> Result<RunOutcome<B, M>, TrainError> {
        if !matches!(ending, Ending::Interrupted(_)) {
            let failure = Failure::default();
            let owner = Owner::new(None, &self.config.model);
            let recorder = AtomicRecorder::with_failure(failure.clone()).of(owner);
            let record = numbered(model.clone()).into_record();
            let saved = Recorder::<B>::record(&recorder, record, model_path(&self.folder));
            if let (Err(_), Some(error)) = (saved, failure.take()) {
                return Err(error);
            }
        }
        let mut valid = self.rows()?;
        valid.retain(|row| row.split == "valid");
        Ok(RunOutcome {
            model,
            valid,
            best,
            ending,
            backend: PhantomData,
        })
    }
}
