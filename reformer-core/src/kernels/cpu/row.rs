//! A single row times a matrix: what decoding one token is made of.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// What a product is written on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Onto {
    /// It replaces what is there.
    Nothing,
    /// It is added to what is there.
    Sum,
}

/// Columns that a thread takes at a time.
const COLUMNS: usize = 256;
/// Multiplications below which threads cost more than they bring.
const THREADS_FROM: usize = 1 << 16;
/// Registers of columns that are summed side by side, enough to keep the multiply-add units busy.
const REGISTERS: usize = 8;

/// `output = x weight` or `output += x weight`, where row `k` of the weight begins at
/// `k * stride`. Each element is one chain of multiply-adds in the order of `k`, as in a product
/// of the crate `gemm` that is not cut.
///
/// # Panics
/// If the weight is shorter than that.
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
    if output.len() * x.len() < THREADS_FROM {
        output.chunks_mut(COLUMNS).enumerate().for_each(columns);
    } else {
        output.par_chunks_mut(COLUMNS).enumerate().for_each(columns);
    }
}

/// Some columns of a product.
struct Columns<'a> {
    output: &'a mut [f32],
    x: &'a [f32],
    /// From the first of the columns on.
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

/// `N` registers of sums. A single one may be filled in part.
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
