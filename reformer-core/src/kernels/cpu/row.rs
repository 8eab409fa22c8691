//! Product of a single row and a matrix, the main operation of decoding.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::kernels::items_of_task;

/// How a product is written to the output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Onto {
    /// Replaces the output.
    Nothing,
    /// Is added to the output.
    Sum,
}

/// Number of columns per thread task.
const COLUMNS: usize = 256;
/// A multiplication takes as long as so many of a matrix product: each reads a weight of its own.
const COST: usize = 4;
/// Number of registers summed in parallel, enough to keep the multiply-add units busy.
const REGISTERS: usize = 8;

/// `output = x weight` or `output += x weight`, where row `k` of the weight begins at `k * stride`.
/// Each element is one chain of multiply-adds in the order of `k`, as in a product of the crate
/// `gemm` whose sums are not split.
///
/// # Panics
/// If the weight is too short.
pub(super) fn row_product(
    output: &mut [f32],
    x: &[f32],
    weight: &[f32],
    stride: usize,
    onto: Onto,
) {
    let columns = |(block, output): (usize, &mut [f32])| {
        let weight = &weight[block * COLUMNS..];
        Arch::new().dispatch(Columns {
            output,
            x,
            weight,
            stride,
            onto,
        });
    };
    output
        .par_chunks_mut(COLUMNS)
        .enumerate()
        .with_min_len(items_of_task(COST * COLUMNS * x.len()))
        .for_each(columns);
}

/// A range of columns of a product.
struct Columns<'a> {
    output: &'a mut [f32],
    x: &'a [f32],
    /// Starts at the first column of the range.
    weight: &'a [f32],
    stride: usize,
    onto: Onto,
}

impl WithSimd for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = S::F32_LANES;
        let n = self.output.len();
        let mut column = 0;
        while column < n {
            let weight = &self.weight[column..];
            let (x, stride, onto) = (self.x, self.stride, self.onto);
            let wide = column + REGISTERS * lanes;
            if wide <= n {
                let output = &mut self.output[column..wide];
                sums::<S, REGISTERS>(simd, output, x, weight, stride, onto);
                column = wide;
            } else {
                let end = n.min(column + lanes);
                let output = &mut self.output[column..end];
                sums::<S, 1>(simd, output, x, weight, stride, onto);
                column = end;
            }
        }
    }
}

/// `N` registers of sums. If `N` is 1, the register may be filled partially.
#[inline(always)]
fn sums<S: Simd, const N: usize>(
    simd: S,
    output: &mut [f32],
    x: &[f32],
    weight: &[f32],
    stride: usize,
    onto: Onto,
) {
    let n = output.len();
    let load = |row: &[f32]| -> [S::f32s; N] {
        match S::as_simd_f32s(row).0.first_chunk() {
            Some(whole) => *whole,
            None => [simd.partial_load_f32s(row); N],
        }
    };
    let mut sums = [simd.splat_f32s(0.0); N];
    for (at, &x) in x.iter().enumerate() {
        let row = load(&weight[at * stride..][..n]);
        let x = simd.splat_f32s(x);
        for (sum, weight) in sums.iter_mut().zip(row) {
            *sum = simd.mul_add_e_f32s(x, weight, *sum);
        }
    }
    if onto == Onto::Sum {
        for (sum, before) in sums.iter_mut().zip(load(output)) {
            *sum = simd.add_f32s(before, *sum);
        }
    }
    for (sum, output) in sums.into_iter().zip(output.chunks_mut(S::F32_LANES)) {
        simd.partial_store_f32s(output, sum);
    }
}
