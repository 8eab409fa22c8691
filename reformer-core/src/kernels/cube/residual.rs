//! Residual connections: chunks of any type are added to a stream, in place if it is not shared.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::common::UNITS;
use super::device::{Cube, Floats, empty, is_own, offsets, side_by_side, width};
use super::strided::{Strided, strided};
use crate::kernels::Residual;

#[cube(launch, address_type = "dynamic")]
fn add<F: Float, N: Size>(
    x: &Strided<Vector<f32, N>>,
    part: &Strided<Vector<F, N>>,
    output: &mut Strided<Vector<f32, N>>,
    start: usize,
    sign: f32,
    n_units: usize,
    #[comptime] d: usize,
    #[comptime] width: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= n_units {
        terminate!();
    }
    let columns = comptime![d / width];
    let column = ABSOLUTE_POS % columns;
    let row = ABSOLUTE_POS / columns;
    let (batch, of_part) = (row / part.length, row % part.length);
    let position = start + of_part;
    let more = Vector::<f32, N>::cast_from(part.vectors[part.at(batch, of_part) + column]);
    let value = x.vectors[x.at(batch, position) + column] + more * Vector::new(sign);
    let to = output.at(batch, position) + column;
    output.vectors[to] = value;
}

/// See [`ReformerBackend::residual`](crate::kernels::ReformerBackend::residual).
pub(in crate::kernels) fn residual<B: Cube>(
    x: Floats<B, 3>,
    parts: Vec<Floats<B, 3>>,
    direction: Residual,
) -> Floats<B, 3> {
    let shape = x.dims();
    let x = side_by_side(B::floats(x));
    let output = match is_own(&x) {
        true => None,
        false => Some(empty(&x, shape, DType::F32)),
    };
    let mut start = 0;
    for part in parts {
        let length = part.dims()[1];
        add_part::<B>(&x, output.as_ref(), start, part, direction);
        start += length;
    }
    assert_eq!(start, shape[1], "positions of the residual of {shape:?}");
    B::of_floats(output.unwrap_or(x))
}

/// See [`ReformerBackend::residual_at`](crate::kernels::ReformerBackend::residual_at).
pub(in crate::kernels) fn residual_at<B: Cube>(
    x: Floats<B, 3>,
    start: usize,
    part: Floats<B, 3>,
    direction: Residual,
) -> Floats<B, 3> {
    if part.dims()[1] == x.dims()[1] {
        return residual(x, vec![part], direction);
    }
    let x = side_by_side(B::floats(x));
    let x = if is_own(&x) { x } else { x.copy() };
    add_part::<B>(&x, None, start, part, direction);
    B::of_floats(x)
}

/// Adds a chunk to the positions from `start` on; in place without an `output`.
fn add_part<B: Cube>(
    x: &CubeTensor<B::Runtime>,
    output: Option<&CubeTensor<B::Runtime>>,
    start: usize,
    part: Floats<B, 3>,
    direction: Residual,
) {
    let [batch_size, seq_length, of_x] = x.meta.shape().dims();
    let [size, length, d] = part.dims();
    assert!(
        size == batch_size && d == of_x && start + length <= seq_length,
        "{:?} from position {start} on does not fit {:?}",
        part.dims(),
        [batch_size, seq_length, of_x]
    );
    let part = side_by_side(B::floats(part));
    let to = output.unwrap_or(x);
    let width = width(&[x, &part, to]);
    let n_units = size * length * d / width;
    let client = x.client.clone();
    let units = CubeDim::new_1d(UNITS);
    let dtype = part.dtype;
    let mut written = strided(to.clone(), width);
    if output.is_none() {
        written.vectors = x.as_tensor_alias(0).into_array_arg();
    }
    add::launch(
        &client,
        calculate_cube_count_elemwise(&client, n_units, units),
        units,
        offsets(&[x, &part, to]),
        width,
        strided(x.clone(), width),
        strided(part, width),
        written,
        start,
        match direction {
            Residual::Add => 1.0,
            Residual::Subtract => -1.0,
        },
        n_units,
        d,
        width,
        dtype.into(),
    );
}
