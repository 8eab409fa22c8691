//! Large products of `f32`, by the crate `gemm`.

use super::matrix::Matrix;
use super::row::{Onto, row_product};

/// `output = a b` or `output += a b`, with `output` row-major, on all threads.
///
/// The crate `gemm` distributes rows and columns over threads, never the terms of a sum, so the
/// result does not depend on the number of threads.
pub(super) fn product(output: &mut [f32], a: Matrix<f32>, b: Matrix<f32>, onto: Onto) {
    let ([m, _], [_, n]) = (a.shape, b.shape);
    assert_eq!(output.len(), m * n, "output of {m} x {n}");
    // SAFETY: `output` has this size and is borrowed exclusively.
    unsafe { product_at(output.as_mut_ptr(), a, b, onto) };
}

/// `a b`, row-major, in memory that is not cleared before.
pub(super) fn fresh_product(a: Matrix<f32>, b: Matrix<f32>) -> Vec<f32> {
    let ([m, k], [_, n]) = (a.shape, b.shape);
    // For sizes of one or two the crate `gemm` makes slices of the output, which has to be initialised then.
    if m.min(k).min(n) <= 2 {
        let mut output = vec![0.0; m * n];
        product(&mut output, a, b, Onto::Nothing);
        return output;
    }
    let mut output = Vec::with_capacity(m * n);
    // SAFETY: there is room for `m * n` numbers, and a product that is not added to what is there reads
    // none of them and writes all.
    unsafe {
        product_at(output.as_mut_ptr(), a, b, Onto::Nothing);
        output.set_len(m * n);
    }
    output
}

/// [`product`] at an address.
///
/// # Safety
/// There is room for all results, nothing else accesses it meanwhile, and with [`Onto::Sum`] it is initialised.
unsafe fn product_at(output: *mut f32, a: Matrix<f32>, b: Matrix<f32>, onto: Onto) {
    let ([m, k], [inner, n]) = (a.shape, b.shape);
    assert_eq!(k, inner, "a product of {m} x {k} and {inner} x {n}");
    if m == 0 || n == 0 || k == 0 {
        // Empty sums: the output is already zero, or stays unchanged.
        return;
    }
    let alpha = if onto == Onto::Sum { 1.0 } else { 0.0 };
    // SAFETY: the elements of a `Matrix` are inside its slice, there is room for the output, and
    // strides and sizes of slices fit an `isize`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            output,
            1,
            n as isize,
            onto == Onto::Sum,
            a.memory.as_ptr(),
            a.strides[1] as isize,
            a.strides[0] as isize,
            b.memory.as_ptr(),
            b.strides[1] as isize,
            b.strides[0] as isize,
            alpha,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::Rayon(0),
        );
    }
}

/// Number of results up to which `gemm` sums contiguous terms in another order.
const FEW: usize = 16 * 16;
/// Maximum number of terms in one chain of additions.
const TERMS: usize = 512;

/// `output = x weight` or `output += x weight` for the rows of a batch. The result of a row does
/// not depend on the number of rows or on the layout of the weight, to the last bit.
///
/// A single token thus gives the same result as among others. The crate `gemm` sums each element in
/// the order of its terms, but splits long sums depending on the shape of the whole product. It
/// also has other code paths for a single row, and for few results with contiguous terms. So sums
/// are split here depending on their length alone, a single row has its own kernel, and few rows
/// are laid out such that only one code path applies.
pub(super) fn rows_product(
    output: &mut [f32],
    x: Matrix<f32>,
    weight: Matrix<f32>,
    mut onto: Onto,
) {
    let ([n_rows, k], [_, d_out]) = (x.shape, weight.shape);
    // Parts of equal length, which avoids the code paths of `gemm` for one or two terms.
    let length = k.div_ceil(k.div_ceil(TERMS).max(1)).max(1);
    let is_row_major = weight.strides[1] == 1;
    let spread = (!is_row_major && (n_rows == 1 || n_rows * d_out <= FEW)).then(|| spread(x));
    let x = match &spread {
        Some(memory) => Matrix::new(memory, x.shape, [2 * k, 2]),
        None => x,
    };
    for start in (0..k).step_by(length) {
        let terms = start..k.min(start + length);
        let (x, weight) = (x.columns(terms.clone()), weight.rows(terms));
        if n_rows == 1 && d_out > 1 && length > 2 && is_row_major {
            row_product(output, x.row(0), weight.memory, weight.strides[0], onto);
        } else {
            product(output, x, weight, onto);
        }
        onto = Onto::Sum;
    }
}

/// Copies rows with a gap after each number, so that terms are not contiguous.
fn spread(x: Matrix<f32>) -> Vec<f32> {
    let rows = (0..x.shape[0]).flat_map(|number| x.row(number));
    rows.flat_map(|&number| [number, 0.0]).collect()
}
