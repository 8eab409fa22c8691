//! Arithmetic on whole registers.
//!
//! Only products ([of matrices](super::product) and [of a row](super::row)) and [masks](super::tile)
//! use registers explicitly. Everything else is loops over slices that the compiler vectorises,
//! provided they are inlined into a function that [`pulp`] has compiled for the current processor;
//! hence `inline(always)`. Every sum has a fixed order, which depends neither on the number of
//! threads nor on the index of a row in a tile.

use pulp::{Arch, Scalar, Simd};

use super::element::Element;

/// Runs a function that is compiled for this processor's registers, if it is `inline(always)`.
///
/// The bound makes a closure one that is called by value. Given to [`Arch::dispatch`] directly, it
/// would be called through a function of its own, without these registers.
#[inline(always)]
pub(super) fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(f)
}

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
    exp_f32s(Scalar, x)
}

/// [`exp`] of all numbers of a register, to the same bits.
#[inline(always)]
pub(super) fn exp_f32s<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    /// Adding it rounds to an integer, which is then in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let n_in_low_bits = simd.add_f32s(
        simd.mul_f32s(x, simd.splat_f32s(core::f32::consts::LOG2_E)),
        simd.splat_f32s(ROUND),
    );
    let n = simd.sub_f32s(n_in_low_bits, simd.splat_f32s(ROUND));
    let r = simd.sub_f32s(x, simd.mul_f32s(n, simd.splat_f32s(LN_2_HIGH)));
    let r = simd.sub_f32s(r, simd.mul_f32s(n, simd.splat_f32s(LN_2_LOW)));
    let mut p = simd.splat_f32s(1.987_569_1e-4);
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = simd.add_f32s(simd.mul_f32s(p, r), simd.splat_f32s(coefficient));
    }
    let p = simd.mul_f32s(simd.mul_f32s(p, r), r);
    let y = simd.add_f32s(simd.add_f32s(p, r), simd.splat_f32s(1.0));
    let bits = simd.transmute_u32s_f32s(n_in_low_bits);
    let exponent = simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(23));
    let two_to_n = simd.add_u32s(exponent, simd.splat_u32s(1.0f32.to_bits()));
    let y = simd.mul_f32s(y, simd.transmute_f32s_u32s(two_to_n));
    let is_zero = simd.less_than_f32s(x, simd.splat_f32s(-87.0));
    simd.select_f32s(is_zero, simd.splat_f32s(0.0), y)
}

/// Asks for the cache lines of a row that is needed soon.
#[inline(always)]
pub(super) fn prefetch<T>(row: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in row.chunks(64 / size_of::<T>()) {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch has no effect on memory, and SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

/// `a · b`, summed in lanes.
#[inline(always)]
pub(super) fn dot<A: Element, B: Element>(a: &[A], b: &[B]) -> f32 {
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for i in 0..LANES {
            sums[i] += a[i].wide() * b[i].wide();
        }
    }
    let rest: f32 = a_rest
        .iter()
        .zip(b_rest)
        .map(|(a, b)| a.wide() * b.wide())
        .sum();
    sums.iter().sum::<f32>() + rest
}

/// The sum of a function of the numbers, in lanes.
#[inline(always)]
pub(super) fn sum(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let (whole, rest) = x.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for x in whole {
        for i in 0..LANES {
            sums[i] += term(x[i]);
        }
    }
    let rest: f32 = rest.iter().map(|&x| term(x)).sum();
    sums.iter().sum::<f32>() + rest
}

/// Transposes `[rows, columns]` into `[columns, rows]`, both row-major and with both sizes
/// multiples of 4.
#[inline(always)]
pub(super) fn transpose<T: Copy + Default>(to: &mut [T], from: &[T], [rows, columns]: [usize; 2]) {
    const BLOCK: usize = 4;
    for i in (0..rows).step_by(BLOCK) {
        for j in (0..columns).step_by(BLOCK) {
            let mut block = [[T::default(); BLOCK]; BLOCK];
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

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32)
            .map(|i| ((i.wrapping_mul(2_654_435_761) ^ seed) >> 16) as f32 / 65_536.0 - 0.5)
            .collect()
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

    /// [`exp_f32s`] in the registers of this processor.
    struct Exponentials<'a>(&'a mut [f32]);

    impl pulp::WithSimd for Exponentials<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for register in S::as_mut_simd_f32s(self.0).0 {
                *register = exp_f32s(simd, *register);
            }
        }
    }

    #[test]
    fn exp_has_the_same_bits_in_registers() {
        let x: Vec<f32> = (-100_000..88_000).map(|i| i as f32 / 1000.0).collect();
        let mut in_registers = x.clone();
        Arch::new().dispatch(Exponentials(&mut in_registers));
        assert!(x.len().is_multiple_of(LANES));
        for (x, y) in x.iter().zip(in_registers) {
            assert_eq!(exp(*x).to_bits(), y.to_bits(), "exp({x})");
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
