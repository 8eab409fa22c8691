//! Products of matrices in half precision on tensor cores, with sums in single precision: for the
//! shapes of linear layers, which have many rows and few columns.
//!
//! A cube has a block of the result in registers. Blocks of the factors come to shared memory some
//! stages ahead, by copies that no unit waits for. Where a matrix does not consist of whole blocks, the last
//! ones begin earlier and compute some elements again, so that no kernel asks where a matrix ends.

mod kernel;
mod plan;

use burn::tensor::DType;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use super::device::{empty, has_tensor_cores, offsets};
use super::matrices::{ALIGNMENT, EIGHT, PLANE};
use kernel::{SizesLaunch, multiply};
use plan::{DEPTH, Plan, SIDE_OF_BLOCK};

/// A factor as it lies in memory: rows of vectors.
struct Factor<R: CubeRuntime> {
    tensor: CubeTensor<R>,
    /// Dimension of the factor whose elements lie side by side.
    beside: usize,
}

impl<R: CubeRuntime> Factor<R> {
    /// `None` if the rows do not consist of vectors.
    fn new(mut tensor: CubeTensor<R>) -> Option<Self> {
        let beside = tensor
            .meta
            .strides()
            .iter()
            .position(|stride| *stride == 1)?;
        if beside == 0 {
            tensor.meta.swap(0, 1);
        }
        let (row, first) = (
            tensor.meta.strides()[0],
            tensor.handle.offset_start.unwrap_or(0),
        );
        let width = EIGHT as usize;
        let aligned = row.is_multiple_of(width) && first.is_multiple_of(ALIGNMENT as u64);
        aligned.then_some(Self { tensor, beside })
    }
}

/// Whether the device has these kernels for factors of this type.
pub(super) fn serves<R: CubeRuntime>(factor: &CubeTensor<R>) -> bool {
    factor.dtype != DType::F32 && has_tensor_cores(&factor.client, factor.dtype)
}

/// `left right` as the sum of `parts` products with equal numbers of terms, `[parts, rows, columns]`, if the
/// sizes suit these kernels, which have to [serve](serves) the factors. They may be transposed views. A bias, `[columns]` in single
/// precision, is added to every row before it is rounded, if there is one part.
pub(super) fn product<R: CubeRuntime>(
    left: CubeTensor<R>,
    right: CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
    parts: usize,
    dtype: DType,
) -> Option<CubeTensor<R>> {
    debug_assert!(bias.is_none() || parts == 1, "every part would add a bias");
    let [rows, terms] = left.meta.shape().dims();
    let [_, columns] = right.meta.shape().dims();
    let depth = terms / parts;
    let side = SIDE_OF_BLOCK as usize;
    let fits = rows >= side
        && columns >= side
        && columns.is_multiple_of(EIGHT as usize)
        && depth.is_multiple_of(DEPTH as usize)
        && depth > 0
        && left.dtype == right.dtype
        && rows.div_ceil(side) <= left.client.properties().hardware.max_cube_count.1 as usize;
    if !fits {
        return None;
    }
    let (left, right) = (Factor::new(left)?, Factor::new(right)?);
    if left.beside == 0 && !rows.is_multiple_of(EIGHT as usize) {
        return None;
    }
    let plan = Plan::new(&left.tensor.client, left.beside == 1, right.beside == 0);
    let output = empty(&left.tensor, [parts, rows, columns], dtype);
    launch(&plan, [&left.tensor, &right.tensor], bias, &output, depth);
    Some(output)
}

fn launch<R: CubeRuntime>(
    plan: &Plan,
    [left, right]: [&CubeTensor<R>; 2],
    bias: Option<CubeTensor<R>>,
    output: &CubeTensor<R>,
    depth: usize,
) {
    let [parts, rows, columns] = output.meta.shape().dims();
    let count = CubeCount::Static(
        columns.div_ceil(plan.right.n as usize) as u32,
        rows.div_ceil(plan.left.n as usize) as u32,
        parts as u32,
    );
    multiply::launch::<AnyFloat, AnySum, R>(
        &left.client,
        count,
        CubeDim::new_2d(PLANE, plan.units() / PLANE),
        offsets(&[left, right, output]),
        left.clone().into_array_arg(),
        right.clone().into_array_arg(),
        bias.map(CubeTensor::into_array_arg).into(),
        output.clone().into_array_arg(),
        SizesLaunch::new(
            rows as u32,
            columns as u32,
            depth as u32,
            row_of_factor(left),
            row_of_factor(right),
        ),
        *plan,
        [left.dtype.into(), output.dtype.into()],
    );
}

/// Distance of rows, in vectors.
fn row_of_factor<R: CubeRuntime>(factor: &CubeTensor<R>) -> usize {
    factor.meta.strides()[0] / EIGHT as usize
}

/// Stand for the types of factors and results, which kernels get to know when they are compiled.
type AnyFloat = DynamicScalar<FactorMarker>;
type AnySum = DynamicScalar<SumMarker>;

struct FactorMarker;
struct SumMarker;
