//! Arithmetic on whole registers.
//!
//! Only [`product`] uses registers explicitly. Everything else is loops over slices that the
//! compiler vectorises, provided they are inlined into a function that [`pulp`] has compiled for
//! the current processor; hence `inline(always)`. Every sum has a fixed order, which depends
//! neither on the number of threads nor on the index of a row in a tile.

use pulp::Simd;

/// Number of floats in the widest supported register. Rows of buffers are padded to a multiple of
/// it, so loops have no remainder.
pub(super) const LANES: usize = 16;

/// The length of a padded row.
pub(super) fn padded(n: usize) -> usize {
    n.next_multiple_of(LANES)
}

/// `e^x` within 2 units in the last place (Cephes' polynomial), for `x` up to 88. Zero below -87,
/// where the true value is less than 2e-38.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding it rounds to an integer, which is then in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let shifted = x * core::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = p * r + coefficient;
    }
    let two_to_n = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    let y = (p * r * r + r + 1.0) * two_to_n;
    if x < -87.0 { 0.0 } else { y }
}

/// `a · b`, summed in lanes.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for i in 0..LANES {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// The left matrix of a product, `[m, k]`, with its memory layout.
#[derive(Clone, Copy)]
pub(super) enum Left<'a> {
    /// Element `(i, k)` has index `i * stride + k`.
    Rows(&'a [f32], usize),
    /// Element `(i, k)` has index `k * stride + i`: the transpose of a row-major matrix.
    Columns(&'a [f32], usize),
}

/// Rows of the result computed at a time. With two registers of columns that makes 12 sums: enough
/// to keep two multiply-add units busy, few enough for 16 registers.
const ROWS: usize = 6;

/// `c = a b` for small matrices: `c` `[m, n]` and `b` `[k, n]` row-major, `n` a multiple of
/// [`LANES`].
///
/// Measured on 64 x 64 x 128 and similar sizes: 110 GFLOP/s on a core where one large product of
/// the crate `gemm` reaches 112 and its products of this size 80 to 104. Each element is one chain
/// of multiply-adds in the order of `k`.
///
/// # Panics
/// If a slice is too short.
#[inline(always)]
pub(super) fn product<S: Simd>(simd: S, c: &mut [f32], a: Left, b: &[f32], [m, k, n]: [usize; 3]) {
    let lanes = S::F32_LANES;
    let mut column = 0;
    while column < n {
        let wide = column + 2 * lanes <= n;
        let b = &b[column..];
        for row in (0..m).step_by(ROWS) {
            let c = &mut c[row * n + column..];
            let sizes = [k, n];
            macro_rules! blocks {
                ($($rows:literal)*) => {
                    match (ROWS.min(m - row), wide) {
                        $(
                            ($rows, true) => block::<S, $rows, 2>(simd, c, a, row, b, sizes),
                            ($rows, false) => block::<S, $rows, 1>(simd, c, a, row, b, sizes),
                        )*
                        _ => unreachable!("one to {ROWS} rows"),
                    }
                };
            }
            blocks!(1 2 3 4 5 6);
        }
        column += if wide { 2 * lanes } else { lanes };
    }
}

/// `R` rows and `N` registers of columns of a product, from the first one on.
#[inline(always)]
fn block<S: Simd, const R: usize, const N: usize>(
    simd: S,
    c: &mut [f32],
    a: Left,
    first: usize,
    b: &[f32],
    [k, n]: [usize; 2],
) {
    let width = N * S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); N]; R];
    let mut of_a = [0.0; R];
    match a {
        Left::Rows(a, stride) => {
            let mut rows = [a; R];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = &a[(first + i) * stride..][..k];
            }
            for (at, b) in b.chunks(n).take(k).enumerate() {
                for i in 0..R {
                    of_a[i] = rows[i][at];
                }
                multiply_add(simd, &mut sums, of_a, &b[..width]);
            }
        }
        Left::Columns(a, stride) => {
            for (a, b) in a[first..].chunks(stride).zip(b.chunks(n)).take(k) {
                of_a.copy_from_slice(&a[..R]);
                multiply_add(simd, &mut sums, of_a, &b[..width]);
            }
        }
    }
    for (row, sums) in c.chunks_mut(n).zip(sums) {
        let (row, _) = S::as_mut_simd_f32s(&mut row[..width]);
        row.copy_from_slice(&sums);
    }
}

/// Adds the products of a column of `a` and a row of `b`.
#[inline(always)]
fn multiply_add<S: Simd, const R: usize, const N: usize>(
    simd: S,
    sums: &mut [[S::f32s; N]; R],
    a: [f32; R],
    b: &[f32],
) {
    let (b, _) = S::as_simd_f32s(b);
    for i in 0..R {
        let a = simd.splat_f32s(a[i]);
        for j in 0..N {
            sums[i][j] = simd.mul_add_e_f32s(a, b[j], sums[i][j]);
        }
    }
}

/// Transposes `[rows, columns]` into `[columns, rows]`, both row-major and with both sizes
/// multiples of [`LANES`].
#[inline(always)]
pub(super) fn transpose(to: &mut [f32], from: &[f32], [rows, columns]: [usize; 2]) {
    const BLOCK: usize = 4;
    for i in (0..rows).step_by(BLOCK) {
        for j in (0..columns).step_by(BLOCK) {
            let mut block = [[0.0; BLOCK]; BLOCK];
            for r in 0..BLOCK {
                let row = &from[(i + r) * columns + j..][..BLOCK];
                for c in 0..BLOCK {
                    block[c][r] = row[c];
                }
            }
            for (c, column) in block.iter().enumerate() {
                to[(j + c) * rows + i..][..BLOCK].copy_from_slice(column);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use pulp::{Arch, Scalar, WithSimd};

    struct Product<'a> {
        c: &'a mut [f32],
        a: Left<'a>,
        b: &'a [f32],
        sizes: [usize; 3],
    }

    impl WithSimd for Product<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            product(simd, self.c, self.a, self.b, self.sizes);
        }
    }

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32)
            .map(|i| ((i.wrapping_mul(2_654_435_761) ^ seed) >> 16) as f32 / 65_536.0 - 0.5)
            .collect()
    }

    proptest! {
        #[test]
        fn product_is_the_sum_of_products(m in 1usize..20, k in 1usize..40, blocks in 1usize..5) {
            let n = blocks * LANES;
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let transposed: Vec<f32> =
                (0..m * k).map(|at| a[(at % m) * k + at / m]).collect();
            for left in [Left::Rows(&a, k), Left::Columns(&transposed, m)] {
                let (mut c, mut scalar) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
                let sizes = [m, k, n];
                Arch::new().dispatch(Product { c: &mut c, a: left, b: &b, sizes });
                Product { c: &mut scalar, a: left, b: &b, sizes }.with_simd(Scalar);
                for i in 0..m {
                    for j in 0..n {
                        let exact: f64 = (0..k)
                            .map(|at| f64::from(a[i * k + at]) * f64::from(b[at * n + j]))
                            .sum();
                        prop_assert!((f64::from(c[i * n + j]) - exact).abs() < 1e-5);
                        prop_assert!((f64::from(scalar[i * n + j]) - exact).abs() < 1e-5);
                    }
                }
            }
        }
    }

    #[test]
    fn exp_is_right_to_two_units() {
        for i in -87_000..88_000 {
            let x = i as f32 / 1000.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.5e-7, "exp({x}) is off by {error}");
        }
        for x in [-87.1, -1e5, -1e9, f32::NEG_INFINITY] {
            assert_eq!(exp(x), 0.0);
        }
    }

    #[test]
    fn transposed_twice_is_the_same() {
        let from = numbers(32 * 48, 3);
        let (mut there, mut back) = (vec![0.0; 32 * 48], vec![0.0; 32 * 48]);
        transpose(&mut there, &from, [32, 48]);
        assert_eq!(there[5 * 32 + 7], from[7 * 48 + 5]);
        transpose(&mut back, &there, [48, 32]);
        assert_eq!(back, from);
    }

    #[test]
    fn dot_takes_what_fills_no_register_too() {
        let (a, b) = (numbers(37, 4), numbers(37, 5));
        let exact: f64 = a
            .iter()
            .zip(&b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum();
        assert!((f64::from(dot(&a, &b)) - exact).abs() < 1e-6);
    }
}
