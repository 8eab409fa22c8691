//! An optimizer with sharded state: each process keeps that of some parameters, steps them, and
//! sends the others their new values (ZeRO, stage 1: Rajbhandari et al., SC 2020).
//!
//! Parameters are not split, because Burn's optimizers have a state for each of them. Each is
//! stepped as without sharding, so the weights are the same to the bit.

use std::collections::HashSet;

use burn::module::{AutodiffModule, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::{GradientsParams, LearningRate, MultiGradientsParams, Optimizer};
use burn::record::{FullPrecisionSettings, NamedMpkBytesRecorder, Recorder};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};

use super::gradients::extend;
use super::group::Group;
use crate::error::ParallelError;
use crate::optimizer::AnyOptimizer;

/// A sharded optimizer; without a group, it has the whole state.
#[derive(Debug, Clone)]
pub(crate) struct Sharded<O> {
    optimizer: O,
    group: Option<Group>,
    /// Rank of the owner of each parameter, in module order; unknown before the first step.
    owners: Vec<usize>,
}

impl<O> Sharded<O> {
    /// Shards the state over the processes of a group.
    pub(crate) fn new(optimizer: O, group: Option<Group>) -> Self {
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

/// States of parameters, which can be selected and merged.
pub(crate) trait States: Sized {
    /// The states of some parameters.
    fn only(self, ids: &HashSet<ParamId>) -> Self;

    /// Merges them with states of other parameters.
    fn and(self, others: Self) -> Self;
}

/// A state of a parameter.
pub(crate) trait OfParameter {
    fn id(&self) -> ParamId;
}

impl<S> OfParameter for (ParamId, S) {
    fn id(&self) -> ParamId {
        self.0
    }
}

impl<A, S, F> States for AnyOptimizer<A, S, F>
where
    A: IntoIterator<Item: OfParameter> + FromIterator<A::Item>,
    S: IntoIterator<Item: OfParameter> + FromIterator<S::Item>,
    F: IntoIterator<Item: OfParameter> + FromIterator<F::Item>,
{
    fn only(self, ids: &HashSet<ParamId>) -> Self {
        fn only<R>(states: R, ids: &HashSet<ParamId>) -> R
        where
            R: IntoIterator<Item: OfParameter> + FromIterator<R::Item>,
        {
            let states = states.into_iter();
            states.filter(|state| ids.contains(&state.id())).collect()
        }
        match self {
            Self::Adam(states) => Self::Adam(only(states, ids)),
            Self::Sgd(states) => Self::Sgd(only(states, ids)),
            Self::Adafactor(states) => Self::Adafactor(only(states, ids)),
        }
    }

    fn and(self, others: Self) -> Self {
        fn and<R: IntoIterator + FromIterator<R::Item>>(states: R, others: R) -> R {
            states.into_iter().chain(others).collect()
        }
        match (self, others) {
            (Self::Adam(a), Self::Adam(b)) => Self::Adam(and(a, b)),
            (Self::Sgd(a), Self::Sgd(b)) => Self::Sgd(and(a, b)),
            (Self::Adafactor(a), Self::Adafactor(b)) => Self::Adafactor(and(a, b)),
            (mine, other) => panic!("{} and {} are one optimizer", mine.name(), other.name()),
        }
    }
}

impl<O> Sharded<O> {
    /// Assigns owners, and drops the states of parameters of other processes.
    fn share_out<B, M>(&mut self, module: &M, group: &Group)
    where
        B: AutodiffBackend,
        M: AutodiffModule<B>,
        O: Optimizer<M, B, Record: States>,
    {
        let mut parameters = Parameters::default();
        module.visit(&mut parameters);
        self.owners = owners(&parameters.lengths, group.size());
        let mine = parameters.ids.into_iter().zip(&self.owners);
        let mine = mine.filter(|(_, owner)| **owner == group.rank());
        let ids: HashSet<ParamId> = mine.map(|(id, _)| id).collect();
        let states = self.optimizer.to_record().only(&ids);
        self.optimizer = self.optimizer.clone().load_record(states);
    }

    /// Sends each parameter from its owner to all.
    fn exchange<B, M>(&self, module: M, group: &Group) -> Result<M, ParallelError>
    where
        B: AutodiffBackend,
        M: AutodiffModule<B>,
    {
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
    fn whole<B, M>(&self, group: &Group) -> Result<O::Record, ParallelError>
    where
        B: AutodiffBackend,
        M: AutodiffModule<B>,
        O: Optimizer<M, B, Record: States>,
    {
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
            whole = whole.and(part.map_err(|error| ParallelError::Protocol {
                rank,
                reason: format!("its state cannot be read: {error}"),
            })?);
        }
        Ok(whole)
    }
}

impl<O, M, B> Optimizer<M, B> for Sharded<O>
where
    O: Optimizer<M, B, Record: States>,
    M: AutodiffModule<B>,
    B: AutodiffBackend,
{
    type Record = O::Record;

    fn step(&mut self, lr: LearningRate, module: M, mut grads: GradientsParams) -> M {
        let Some(group) = self.group.clone() else {
            return self.optimizer.step(lr, module, grads);
        };
        if self.owners.is_empty() {
            self.share_out(&module, &group);
        }
        module.visit(&mut LetGo {
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

    fn step_multi(&mut self, lr: LearningRate, module: M, grads: MultiGradientsParams) -> M {
        self.optimizer.step_multi(lr, module, grads)
    }

    /// In a group, all processes call this together.
    fn to_record(&self) -> Self::Record {
        let Some(group) = &self.group else {
            return self.optimizer.to_record();
        };
        self.whole(group).unwrap_or_else(|error| {
            group.fail(error);
            self.optimizer.to_record()
        })
    }

    fn load_record(self, record: Self::Record) -> Self {
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
struct LetGo<'a> {
    owned: Owned<'a>,
    gradients: &'a mut GradientsParams,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for LetGo<'_> {
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
    fn parameters_are_shared_out_evenly_and_all() {
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

    #[test]
    fn states_are_taken_apart_and_put_together() {
        type Map = std::collections::BTreeMap<u64, u32>;
        // Identities of parameters are not ordered.
        #[derive(Debug, Clone, PartialEq)]
        struct Some(Map);
        impl FromIterator<(ParamId, u32)> for Some {
            fn from_iter<I: IntoIterator<Item = (ParamId, u32)>>(states: I) -> Self {
                let states = states.into_iter();
                Self(states.map(|(id, state)| (id.val(), state)).collect())
            }
        }
        impl IntoIterator for Some {
            type Item = (ParamId, u32);
            type IntoIter = std::vec::IntoIter<Self::Item>;
            fn into_iter(self) -> Self::IntoIter {
                let states = self.0.into_iter();
                let states: Vec<_> = states.map(|(id, state)| (id.into(), state)).collect();
                states.into_iter()
            }
        }
        let whole: AnyOptimizer<Some, Some, Some> =
            AnyOptimizer::Adam(Some((0..5).map(|i| (i, 7)).collect()));
        let ids = |ids: &[u64]| ids.iter().map(|id| ParamId::from(*id)).collect();
        let part = whole.clone().only(&ids(&[1, 3]));
        let AnyOptimizer::Adam(Some(found)) = &part else {
            panic!("of the same optimizer");
        };
        assert_eq!(found.keys().collect::<Vec<_>>(), [&1, &3]);
        let AnyOptimizer::Adam(put_together) = part.and(whole.clone().only(&ids(&[0, 2, 4])))
        else {
            panic!("of the same optimizer");
        };
        let AnyOptimizer::Adam(whole) = whole else {
            panic!("it was made so");
        };
        assert_eq!(put_together, whole);
    }
}
