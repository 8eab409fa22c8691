//! Residual connections: parts in any type are added to a stream, in place where nobody else has it.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;

use super::common::{UNITS, row_at};
use super::device::{Cube, Floats, empty, offsets, side_by_side, width};
use crate::kernels::Residual;

#[cube(launch, address_type = "dynamic")]
fn add<F: Float, N: Size>(
    x: &Tensor<Vector<f32, N>>,
    part: &Tensor<Vector<F, N>>,
    output: &mut Tensor<Vector<f32, N>>,
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
    let length = part.shape(1);
    let number = row / length * x.shape(1) + start + row % length;
    let more = Vector::<f32, N>::cast_from(part[row_at(part, row) / width + column]);
    let value = x[row_at(x, number) / width + column] + more * Vector::new(sign);
    output[row_at(output, number) / width + column] = value;
}

/// See [`ReformerBackend::residual`](crate::kernels::ReformerBackend::residual).
pub(in crate::kernels) fn residual<B: Cube>(
    x: Floats<B, 3>,
    parts: Vec<Floats<B, 3>>,
    direction: Residual,
) -> Floats<B, 3> {
    let shape @ [batch_size, seq_length, d] = x.dims();
    let x = side_by_side(B::floats(x));
    let in_place = x.can_mut() && x.is_nonoverlapping();
    let output = match in_place {
        true => x.clone(),
        false => empty(&x, shape, DType::F32),
    };
    let client = x.client.clone();
    let units = CubeDim::new_1d(UNITS);
    let mut start = 0;
    for part in parts {
        let [size, length, of_part] = part.dims();
        assert!(
            size == batch_size && of_part == d && start + length <= seq_length,
            "{:?} from position {start} on does not fit {shape:?}",
            part.dims()
        );
        let part = side_by_side(B::floats(part));
        let width = width(&[&x, &part, &output]);
        let n_units = size * length * d / width;
        let dtype = part.dtype;
        add::launch(
            &client,
            calculate_cube_count_elemwise(&client, n_units, units),
            units,
            offsets(&[&x, &part, &output]),
            width,
            x.clone().into_tensor_arg(),
            part.into_tensor_arg(),
            match in_place {
                true => output.as_tensor_alias(0),
                false => output.clone().into_tensor_arg(),
            },
            start,
            match direction {
                Residual::Add => 1.0,
                Residual::TakeAway => -1.0,
            },
            n_units,
            d,
            width,
            dtype.into(),
        );
        start += length;
    }
    assert_eq!(start, seq_length, "positions of the residual of {shape:?}");
    B::of_floats(output)
}
