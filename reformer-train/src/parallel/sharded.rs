//! An optimizer with sharded state: each process keeps that of some parameters, steps them, and
//! sends the others their new values (ZeRO, stage 1: Rajbhandari et al., SC 2020).
//!
//! Parameters are not split, because Burn's optimizers have a state for each of them. Each is
//! stepped as without sharding, so the weights are the same to the bit.

use std::collections::HashSet;

use burn::module::{AutodiffModule, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::{GradientsParams, LearningRate};
use burn::record::{FullPrecisionSettings, NamedMpkBytesRecorder, Recorder};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};

use super::gradients::extend;
use super::group::Group;
use crate::error::ParallelError;
use crate::optimizer::{AnyOptimizer, AnyRecord};

/// A sharded optimizer; without a group, it has the whole state.
#[derive(Clone)]
pub(crate) struct Sharded<M: AutodiffModule<B>, B: AutodiffBackend> {
    optimizer: AnyOptimizer<M, B>,
    group: Option<Group>,
    /// Rank of the owner of each parameter, in module order; unknown before the first step.
    owners: Vec<usize>,
}

impl<M: AutodiffModule<B>, B: AutodiffBackend> Sharded<M, B> {
    /// Shards the state over the processes of a group.
    pub(crate) fn new(optimizer: AnyOptimizer<M, B>, group: Option<Group>) -> Self {
        Self {
            optimizer,
            group: group.filter(|group| group.size() > 1),
            owners: Vec::new(),
        }
    }
}

/// Assigns parameters of these lengths to processes: the longest first, each to the least loaded.
fn owners(lengths: &[usize], size: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&number| std::cmp::Reverse(lengths[number]));
    let mut loads = vec![0; size];
    let mut owners = vec![0; lengths.len()];
    for number in order {
        let least = (0..size).min_by_key(|&rank| loads[rank]).unwrap_or(0);
        loads[least] += lengths[number].max(1);
        owners[number] = least;
    }
    owners
}

impl<M: AutodiffModule<B>, B: AutodiffBackend> Sharded<M, B> {
    /// Assigns owners, and drops the states of parameters of other processes.
    fn assign_owners(&mut self, module: &M, group: &Group) {
        let mut parameters = Parameters::default();
        module.visit(&mut parameters);
        self.owners = owners(&parameters.lengths, group.size());
        let mine = parameters.ids.into_iter().zip(&self.owners);
        let mine = mine.filter(|(_, owner)| **owner == group.rank());
        let ids: HashSet<ParamId> = mine.map(|(id, _)| id).collect();
        let states = self.optimizer.to_record().filter(&ids);
        self.optimizer = self.optimizer.clone().load_record(states);
    }

    /// Sends each parameter from its owner to all.
    fn exchange(&self, module: M, group: &Group) -> Result<M, ParallelError> {
        let mut module = module;
        let mut values = Vec::new();
        for rank in 0..group.size() {
            values.clear();
            module.visit(&mut Flatten {
                owned: Owned::new(&self.owners, rank),
                is_mine: rank == group.rank(),
                values: &mut values,
            });
            group.broadcast_values(rank, &mut values)?;
            if rank != group.rank() {
                module = module.map(&mut Replace {
                    owned: Owned::new(&self.owners, rank),
                    values: &values,
                });
            }
        }
        Ok(module)
    }

    /// Merges the states of all processes, in the first one. The others return their own, which is not saved.
    fn whole(&self, group: &Group) -> Result<AnyRecord<M, B>, ParallelError> {
        let recorder = NamedMpkBytesRecorder::<FullPrecisionSettings>::default();
        let own = self.optimizer.to_record();
        if !group.is_first() {
            let bytes = Recorder::<B>::record(&recorder, own, ());
            let bytes = bytes.unwrap_or_else(|error| panic!("states are plain numbers: {error}"));
            group.gather_bytes(bytes)?;
            return Ok(self.optimizer.to_record());
        }
        let mut whole = own;
        let others = group.gather_bytes(Vec::new())?;
        for (rank, bytes) in others.into_iter().enumerate().skip(1) {
            // For writing only: the device does not matter.
            let part = Recorder::<B>::load(&recorder, bytes, &B::Device::default());
            whole = whole.merge(part.map_err(|error| ParallelError::Protocol {
                rank,
                reason: format!("its state cannot be read: {error}"),
            })?);
        }
        Ok(whole)
    }

    /// As [`Optimizer::step`](burn::optim::Optimizer::step).
    pub(crate) fn step(&mut self, lr: LearningRate, module: M, mut grads: GradientsParams) -> M {
        let Some(group) = self.group.clone() else {
            return self.optimizer.step(lr, module, grads);
        };
        if self.owners.is_empty() {
            self.assign_owners(&module, &group);
        }
        module.visit(&mut DropOthers {
            owned: Owned::new(&self.owners, group.rank()),
            gradients: &mut grads,
        });
        let module = self.optimizer.step(lr, module, grads);
        self.exchange(module.clone(), &group)
            .unwrap_or_else(|error| {
                group.fail(error);
                module
            })
    }

    /// The whole state. In a group, all processes call this together.
    pub(crate) fn to_record(&self) -> AnyRecord<M, B> {
        let Some(group) = &self.group else {
            return self.optimizer.to_record();
        };
        self.whole(group).unwrap_or_else(|error| {
            group.fail(error);
            self.optimizer.to_record()
        })
    }

    /// Continues from a whole state.
    pub(crate) fn load_record(self, record: AnyRecord<M, B>) -> Self {
        Self {
            optimizer: self.optimizer.load_record(record),
            // It holds the whole state, until the next step.
            owners: Vec::new(),
            ..self
        }
    }
}

#[derive(Default)]
struct Parameters {
    ids: Vec<ParamId>,
    lengths: Vec<usize>,
}

impl<B: Backend> ModuleVisitor<B> for Parameters {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.ids.push(param.id);
        self.lengths.push(param.lazy_shape().num_elements());
    }
}

/// Counts parameters and selects those of one process.
struct Owned<'a> {
    owners: std::slice::Iter<'a, usize>,
    rank: usize,
}

impl<'a> Owned<'a> {
    fn new(owners: &'a [usize], rank: usize) -> Self {
        Self {
            owners: owners.iter(),
            rank,
        }
    }

    fn next(&mut self) -> bool {
        self.owners.next() == Some(&self.rank)
    }
}

/// Drops the gradients of parameters of other processes.
struct DropOthers<'a> {
    owned: Owned<'a>,
    gradients: &'a mut GradientsParams,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for DropOthers<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if !self.owned.next() {
            self.gradients.remove::<B::InnerBackend, D>(param.id);
        }
    }
}

/// Collects the values of one process's parameters, or reserves room for them.
struct Flatten<'a> {
    owned: Owned<'a>,
    is_mine: bool,
    values: &'a mut Vec<f32>,
}

impl<B: Backend> ModuleVisitor<B> for Flatten<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if !self.owned.next() {
            return;
        }
        match self.is_mine {
            true => extend(self.values, &param.val().into_data()),
            false => {
                let n_values = self.values.len() + param.lazy_shape().num_elements();
                self.values.resize(n_values, 0.0);
            }
        }
    }
}

/// Replaces the values of one process's parameters.
struct Replace<'a> {
    owned: Owned<'a>,
    /// Values of the parameters that are not visited yet.
    values: &'a [f32],
}

impl<B: AutodiffBackend> ModuleMapper<B> for Replace<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        if !self.owned.next() {
            return param;
        }
        let (id, tensor, mapper) = param.consume();
        let shape = tensor.dims();
        let (values, rest) = self.values.split_at(shape.iter().product());
        self.values = rest;
        let data = TensorData::new(values.to_vec(), shape);
        let new = Tensor::<B::InnerBackend, D>::from_data(data, &tensor.device());
        let new = match tensor.is_require_grad() {
            true => Tensor::from_inner(new).require_grad(),
            false => Tensor::from_inner(new),
        };
        Param::from_mapped_value(id, new, mapper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parameters_are_divided_evenly() {
        let lengths = [4, 4, 100, 8, 50, 0, 50, 1];
        let owners = owners(&lengths, 3);
        let load = |rank| -> usize {
            let of = owners
                .iter()
                .zip(lengths)
                .filter(|(owner, _)| **owner == rank);
            of.map(|(_, length)| length).sum()
        };
        // 100; 50, 8 and 1; 50, 4 and 4: a process gets more only when the others have as much.
        assert_eq!([load(0), load(1), load(2)], [100, 59, 58]);
    }
}
