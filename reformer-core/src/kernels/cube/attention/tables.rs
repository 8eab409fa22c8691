//! What all attention kernels read besides the rows themselves.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::sizes::Sizes;

/// Tensors from which the metadata of rows are read, and the sizes of the launch. Some are there only
/// because a kernel needs all its arguments: [`Plan`](super::plan::Plan) says which ones are read.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Tables<I: Int> {
    /// Divisors of queries that are also keys: `[batch_size, n_heads, seq_length]`.
    pub(super) divisors: Tensor<f32>,
    /// Positions in slots, negative in empty ones: `[batch_size, n_heads, n_rounds, n_slots]`.
    pub(super) order: Tensor<I>,
    /// See [`sort_keys`](super::sort_keys::sort_keys).
    pub(super) sort_keys: Tensor<i32>,
    /// Nonzero at padding: `[batch_size, n_keys]`.
    pub(super) mask: Tensor<I>,
    /// Of backward: see [`statistics`](crate::kernels::cube::rows::statistics).
    pub(super) statistics: ComptimeOption<Tensor<f32>>,
    pub(super) sizes: Sizes,
}

/// Stand for the types of rows and positions in a launch, whose kernels get to know them when they are
/// compiled.
pub(super) type AnyFloat = DynamicScalar<FloatMarker>;
pub(super) type AnyInt = DynamicScalar<IntMarker>;

pub(super) struct FloatMarker;
pub(super) struct IntMarker;
