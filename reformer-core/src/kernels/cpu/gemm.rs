//! Matrix products on all threads, of `f32` or of pairs of `bf16`.
//!
//! The right matrix is copied into panels of two registers of columns; threads take blocks of rows
//! of the result. Each element is one chain of additions in the order of the sum, which starts
//! from the bias or from what is there. So it depends neither on the threads nor on the other rows,
//! whatever their number.

use core::ops::Range;

use rayon::prelude::*;

use super::element::Element;
use super::matrix::Matrix;
use super::product::{Factor, Kernel, Left, ROWS, WithKernel, columns_of_product};
use super::simd::LANES;

/// Number of columns in a panel: two of the widest registers.
const PANEL: usize = 2 * LANES;
/// Number of columns per task where there are few rows.
const COLUMNS: usize = 8 * PANEL;
/// Maximum number of terms whose panels exist at a time, where sums can be continued.
const TERMS: usize = 1024;
/// Maximum number of rows per task: 16 blocks.
const MAX_ROWS: usize = 16 * ROWS;
/// Number of rows below which the right matrix is not copied beforehand.
const FEW_ROWS: usize = 16;
/// Number of multiplications below which threads do not pay off.
const THREADS_FROM: usize = 1 << 16;

/// What the sums of a product start from.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    Zero,
    /// The same row everywhere.
    Row(&'a [f32]),
    /// What is in the output.
    Output,
}

/// `output = start + a b`, row-major, with factors `F`.
///
/// # Panics
/// If sizes do not fit.
pub(super) fn product<F: Factor, A: Element, B: Element, C: Element>(
    output: &mut [C],
    a: Matrix<A>,
    b: Matrix<B>,
    start: Start,
) {
    let ([m, k], [inner, n]) = (a.shape, b.shape);
    assert_eq!(k, inner, "a product of {m} x {k} and {inner} x {n}");
    assert_eq!(output.len(), m * n, "output of {m} x {n}");
    if let Start::Row(row) = start {
        assert_eq!(row.len(), n, "a row to start {n} columns from");
    }
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        let mut sums = vec![0.0; m * n];
        start.begin(&mut sums, n, output, n, 0..n);
        return finish(&sums, n, output, n, 0..n);
    }
    match m < FEW_ROWS {
        true => few_rows::<F, A, B, C>(output, a, b, start),
        false => many_rows::<F, A, B, C>(output, a, b, start),
    }
}

/// Copies panels of the right matrix, then multiplies blocks of rows by all of them.
fn many_rows<F: Factor, A: Element, B: Element, C: Element>(
    output: &mut [C],
    a: Matrix<A>,
    b: Matrix<B>,
    mut start: Start,
) {
    let ([m, k], n) = (a.shape, b.shape[1]);
    // Numbers of half precision would be rounded where a sum is continued.
    let is_exact = C::as_f32(&[]).is_some();
    let n_terms = if is_exact { k.min(TERMS) } else { k };
    let in_parallel = m * n * k >= THREADS_FROM;
    let n_rows = rows_of_task(m);
    for first in (0..k).step_by(n_terms) {
        let terms = first..k.min(first + n_terms);
        let size = terms.len().div_ceil(F::TERMS) * PANEL;
        let mut panels = vec![F::default(); n.div_ceil(PANEL) * size];
        let b = b.rows(terms.clone());
        for_each_chunk(&mut panels, size, in_parallel, |number, panel| {
            let first = number * PANEL;
            let b = b.columns(first..n.min(first + PANEL));
            F::dispatch(CopyPanel { panel, b });
        });
        let a = a.columns(terms);
        for_each_chunk(output, n_rows * n, in_parallel, |number, output| {
            let first = number * n_rows;
            F::dispatch(Rows {
                a: a.rows(first..first + output.len() / n),
                output,
                panels: &panels,
                size,
                start,
            });
        });
        start = Start::Output;
    }
}

/// Number of rows per task: several tasks for each thread, whole blocks.
fn rows_of_task(m: usize) -> usize {
    let n_tasks = 4 * rayon::current_num_threads();
    m.div_ceil(n_tasks)
        .next_multiple_of(ROWS)
        .clamp(ROWS, MAX_ROWS)
}

fn for_each_chunk<T: Send>(
    all: &mut [T],
    size: usize,
    in_parallel: bool,
    f: impl Fn(usize, &mut [T]) + Sync,
) {
    match in_parallel {
        true => all
            .par_chunks_mut(size)
            .enumerate()
            .for_each(|(number, chunk)| f(number, chunk)),
        false => all
            .chunks_mut(size)
            .enumerate()
            .for_each(|(number, chunk)| f(number, chunk)),
    }
}

/// Copies at most [`PANEL`] columns into a panel, `[factors, PANEL]`, filled up with zeros.
struct CopyPanel<'a, F, B> {
    panel: &'a mut [F],
    b: Matrix<'a, B>,
}

impl<F: Factor, B: Element> WithKernel<F> for CopyPanel<'_, F, B> {
    type Output = ();

    #[inline(always)]
    fn with_kernel<K: Kernel<Factor = F>>(self, _kernel: K) {
        let width = self.b.shape[1];
        for (number, row) in self.panel.chunks_exact_mut(PANEL).enumerate() {
            let (row, rest) = row.split_at_mut(width);
            self.b.copy_factors(number, row);
            rest.fill(F::default());
        }
    }
}

/// Some rows of the result.
struct Rows<'a, F, A, C> {
    output: &'a mut [C],
    a: Matrix<'a, A>,
    /// The panels of all columns.
    panels: &'a [F],
    /// Number of factors in a panel.
    size: usize,
    start: Start<'a>,
}

impl<F: Factor, A: Element, C: Element> WithKernel<F> for Rows<'_, F, A, C> {
    type Output = ();

    #[inline(always)]
    fn with_kernel<K: Kernel<Factor = F>>(self, kernel: K) {
        let m = self.a.shape[0];
        let n = self.output.len() / m;
        let mut copy = Vec::new();
        let (left, k) = self.a.factors(&mut copy);
        let mut sums = [0.0; MAX_ROWS * PANEL];
        let sums = &mut sums[..m * PANEL];
        for (number, panel) in self.panels.chunks_exact(self.size).enumerate() {
            let columns = number * PANEL..n.min((number + 1) * PANEL);
            self.start
                .begin(sums, PANEL, self.output, n, columns.clone());
            multiply_panel(kernel, sums, left, panel, [m, k], PANEL);
            finish(sums, PANEL, self.output, n, columns);
        }
    }
}

/// Adds the products of `m` rows and a panel.
#[inline(always)]
fn multiply_panel<K: Kernel>(
    kernel: K,
    sums: &mut [f32],
    left: Left<K::Factor>,
    panel: &[K::Factor],
    sizes: [usize; 2],
    stride: usize,
) {
    for column in (0..PANEL).step_by(2 * K::LANES) {
        let (sums, panel) = (&mut sums[column..], &panel[column..]);
        columns_of_product::<K, 2>(kernel, sums, left, panel, sizes, [stride, PANEL], true);
    }
}

/// Multiplies few rows: threads take columns, and the right matrix is read once.
fn few_rows<F: Factor, A: Element, B: Element, C: Element>(
    output: &mut [C],
    a: Matrix<A>,
    b: Matrix<B>,
    start: Start,
) {
    let ([m, k], n) = (a.shape, b.shape[1]);
    let columns = |number: usize| number * COLUMNS..n.min((number + 1) * COLUMNS);
    let n_parts = n.div_ceil(COLUMNS);
    let mut parts = vec![0.0; n_parts * m * COLUMNS];
    let in_parallel = m * n * k >= THREADS_FROM;
    for_each_chunk(&mut parts, m * COLUMNS, in_parallel, |number, sums| {
        start.begin(sums, COLUMNS, output, n, columns(number));
        let b = b.columns(columns(number));
        F::dispatch(Columns { sums, a, b });
    });
    for (number, sums) in parts.chunks_exact(m * COLUMNS).enumerate() {
        finish(sums, COLUMNS, output, n, columns(number));
    }
}

/// Some columns of the result.
struct Columns<'a, A, B> {
    /// `[m, COLUMNS]`
    sums: &'a mut [f32],
    a: Matrix<'a, A>,
    b: Matrix<'a, B>,
}

impl<F: Factor, A: Element, B: Element> WithKernel<F> for Columns<'_, A, B> {
    type Output = ();

    #[inline(always)]
    fn with_kernel<K: Kernel<Factor = F>>(self, kernel: K) {
        let (m, [n_terms, n]) = (self.a.shape[0], self.b.shape);
        let mut copy = Vec::new();
        let (left, k) = self.a.factors(&mut copy);
        let mut panel = vec![F::default(); n_terms.div_ceil(F::TERMS) * PANEL];
        for column in (0..n).step_by(PANEL) {
            let b = self.b.columns(column..n.min(column + PANEL));
            let panel = &mut panel[..];
            CopyPanel { panel, b }.with_kernel(kernel);
            // Columns of the last panel that do not exist are sums of zeros.
            let sums = &mut self.sums[column..];
            multiply_panel(kernel, sums, left, panel, [m, k], COLUMNS);
        }
    }
}

impl Start<'_> {
    /// Sets `sums`, of rows of `stride`, to what some columns start from.
    #[inline(always)]
    fn begin<C: Element>(
        self,
        sums: &mut [f32],
        stride: usize,
        output: &[C],
        n: usize,
        columns: Range<usize>,
    ) {
        match self {
            Self::Zero => sums.fill(0.0),
            Self::Row(row) => {
                for sums in sums.chunks_exact_mut(stride) {
                    sums[..columns.len()].copy_from_slice(&row[columns.clone()]);
                }
            }
            Self::Output => {
                for (sums, row) in sums.chunks_exact_mut(stride).zip(output.chunks_exact(n)) {
                    for (sum, x) in sums.iter_mut().zip(&row[columns.clone()]) {
                        *sum = x.wide();
                    }
                }
            }
        }
    }
}

/// Writes sums, of rows of `stride`, to some columns of the output.
#[inline(always)]
fn finish<C: Element>(
    sums: &[f32],
    stride: usize,
    output: &mut [C],
    n: usize,
    columns: Range<usize>,
) {
    for (sums, row) in sums.chunks_exact(stride).zip(output.chunks_exact_mut(n)) {
        for (x, sum) in row[columns.clone()].iter_mut().zip(sums) {
            *x = C::narrow(*sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pairs::Pair;
    use super::*;
    use burn::tensor::bf16;
    use proptest::prelude::*;
    use rayon::ThreadPoolBuilder;

    /// Numbers that `bf16` has exactly.
    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32)
            .map(|i| ((i.wrapping_mul(2_654_435_761) ^ seed) >> 25) as f32 / 64.0 - 1.0)
            .collect()
    }

    fn transposed(from: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
        (0..rows * columns)
            .map(|at| from[at % rows * columns + at / rows])
            .collect()
    }

    /// The product of matrices in either order of memory, with one to three threads; all are the same.
    fn products<F: Factor>([m, k, n]: [usize; 3], start: Start) -> Vec<f32> {
        let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
        let columns = [transposed(&a, [m, k]), transposed(&b, [k, n])];
        let left = [
            Matrix::new(&a, [m, k], [k, 1]),
            Matrix::new(&columns[0], [m, k], [1, m]),
        ];
        let right = [
            Matrix::new(&b, [k, n], [n, 1]),
            Matrix::new(&columns[1], [k, n], [1, k]),
        ];
        let product = |threads, a, b| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build();
            let mut output = numbers(m * n, 3);
            pool.expect("a few threads")
                .install(|| product::<F, _, _, _>(&mut output, a, b, start));
            output
        };
        let first = product(1, left[0], right[0]);
        for (threads, a, b) in [(2, 0, 1), (3, 1, 0), (2, 1, 1)] {
            let again = product(threads, left[a], right[b]);
            assert!(again == first, "{threads} threads, orders {a} and {b}");
        }
        first
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn product_is_the_sum_of_products(m in 1usize..60, k in 0usize..80, n in 1usize..100, long in 0usize..8) {
            // Some sums are longer than what is copied at a time.
            let k = if long == 0 { k + 1100 } else { k };
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let (row, before) = (numbers(n, 4), numbers(m * n, 3));
            for (start, of) in [
                (Start::Zero, None),
                (Start::Row(&row), Some(&row)),
                (Start::Output, Some(&before)),
            ] {
                for found in [products::<f32>([m, k, n], start), products::<Pair>([m, k, n], start)] {
                    for i in 0..m * n {
                        let terms = (0..k).map(|t| f64::from(a[i / n * k + t]) * f64::from(b[t * n + i % n]));
                        let first = of.map_or(0.0, |of| f64::from(of[i % of.len()]));
                        let exact = first + terms.sum::<f64>();
                        prop_assert!((f64::from(found[i]) - exact).abs() < 1e-3, "{} instead of {exact}", found[i]);
                    }
                }
            }
        }
    }

    /// To the last bit, also in half precision.
    #[test]
    fn a_row_does_not_depend_on_the_others() {
        for [m, k, n] in [[70, 33, 40], [40, 1100, 31], [130, 64, 300]] {
            let (a, b) = (numbers(m * k, 5), numbers(k * n, 6));
            let bias = numbers(n, 7);
            let rows = |first: usize, m: usize| {
                let a = Matrix::new(&a[first * k..], [m, k], [k, 1]);
                let b = Matrix::new(&b, [k, n], [n, 1]);
                let (mut single, mut half) = (vec![0.0f32; m * n], vec![bf16::ZERO; m * n]);
                product::<f32, _, _, _>(&mut single, a, b, Start::Row(&bias));
                product::<Pair, _, _, _>(&mut half, a, b, Start::Row(&bias));
                (single, half)
            };
            let all = rows(0, m);
            for (first, few) in [(0, 1), (7, 1), (3, 5), (11, 17)] {
                let found = rows(first, few);
                let range = first * n..(first + few) * n;
                assert!(found.0 == all.0[range.clone()] && found.1 == all.1[range]);
            }
        }
    }
}
