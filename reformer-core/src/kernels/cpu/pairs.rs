//! Products of pairs of `bf16`: on processors that have an instruction for them, twice as many
//! multiplications as of `f32` in the same time.

use burn::tensor::DType;

use super::element::Element;
use super::product::{Factor, Kernel, WithKernel};
use super::simd::LANES;

/// Two adjacent terms, rounded to `bf16`; the first one in the lower half.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub(in crate::kernels) struct Pair(u32);

impl Pair {
    /// Whether tensors of a type are multiplied as pairs.
    pub(in crate::kernels) fn serves(dtype: DType) -> bool {
        dtype == DType::BF16 && Self::is_fast()
    }

    /// Whether this processor has the instruction; otherwise `f32` is faster.
    fn is_fast() -> bool {
        #[cfg(target_arch = "x86_64")]
        return x86::exists();
        #[cfg(not(target_arch = "x86_64"))]
        false
    }
}

impl Factor for Pair {
    const TERMS: usize = 2;

    #[inline(always)]
    fn of<E: Element>(terms: [E; 2]) -> Self {
        let [low, high] = terms;
        let [low, high] = [low.to_bf16(), high.to_bf16()];
        let [low, high] = [u32::from(low.to_bits()), u32::from(high.to_bits())];
        Self(low | high << 16)
    }

    #[inline(always)]
    fn lent<E: Element>(_numbers: &[E]) -> Option<&[Self]> {
        None
    }

    fn dispatch<W: WithKernel<Self>>(computation: W) -> W::Output {
        #[cfg(target_arch = "x86_64")]
        let computation = match x86::dispatch(computation) {
            Ok(output) => return output,
            Err(computation) => computation,
        };
        computation.with_kernel(Portable)
    }
}

/// The same sums without the instruction, for tests.
#[derive(Clone, Copy)]
struct Portable;

impl Kernel for Portable {
    type Factor = Pair;
    type Sums = [f32; LANES];
    const LANES: usize = LANES;
    type Simd = pulp::Scalar;

    #[inline(always)]
    fn simd(self) -> pulp::Scalar {
        pulp::Scalar
    }

    #[inline(always)]
    fn load(self, sums: &[f32]) -> [f32; LANES] {
        sums[..LANES].try_into().expect("it has this length")
    }

    #[inline(always)]
    fn store(self, to: &mut [f32], sums: [f32; LANES]) {
        to[..LANES].copy_from_slice(&sums);
    }

    #[inline(always)]
    fn multiply_add(self, left: Pair, right: &[Pair], sums: [f32; LANES]) -> [f32; LANES] {
        let halves = |Pair(bits)| [bits << 16, bits & 0xffff_0000].map(f32::from_bits);
        let [low, high] = halves(left);
        core::array::from_fn(|i| {
            let right = halves(right[i]);
            sums[i] + (high * right[1] + low * right[0])
        })
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::{
        __m512, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512,
        _mm512_set1_epi32, _mm512_storeu_ps,
    };
    use core::mem::transmute;

    use pulp::x86::V4;

    use super::Pair;
    use crate::kernels::cpu::product::{Kernel, WithKernel};

    /// Exists only where the instructions do.
    #[derive(Clone, Copy)]
    struct Avx512(V4);

    impl Kernel for Avx512 {
        type Factor = Pair;
        type Sums = __m512;
        const LANES: usize = 16;
        type Simd = V4;

        #[inline(always)]
        fn simd(self) -> V4 {
            self.0
        }

        #[inline(always)]
        fn load(self, sums: &[f32]) -> __m512 {
            let sums = &sums[..Self::LANES];
            // SAFETY: the slice has the size of a register, and the instruction exists.
            unsafe { _mm512_loadu_ps(sums.as_ptr()) }
        }

        #[inline(always)]
        fn store(self, to: &mut [f32], sums: __m512) {
            let to = &mut to[..Self::LANES];
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), sums) };
        }

        #[inline(always)]
        fn multiply_add(self, Pair(left): Pair, right: &[Pair], sums: __m512) -> __m512 {
            let right = &right[..Self::LANES];
            // SAFETY: as above; the types that are transmuted are 64 bytes of any content.
            unsafe {
                let left = transmute::<__m512i, __m512bh>(_mm512_set1_epi32(left as i32));
                let right = _mm512_loadu_si512(right.as_ptr().cast());
                _mm512_dpbf16_ps(sums, left, transmute::<__m512i, __m512bh>(right))
            }
        }
    }

    pub(super) fn exists() -> bool {
        is_x86_feature_detected!("avx512bf16") && V4::try_new().is_some()
    }

    pub(super) fn dispatch<W: WithKernel<Pair>>(computation: W) -> Result<W::Output, W> {
        match V4::try_new() {
            // SAFETY: the instructions exist.
            Some(v4) if exists() => Ok(unsafe { run(computation, v4) }),
            _ => Err(computation),
        }
    }

    /// With the instructions of [`V4`], so that they are inlined, and that for pairs.
    ///
    /// # Safety
    /// They must [exist](exists).
    #[target_feature(
        enable = "avx512bf16,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,avx,bmi1,bmi2,fma,lzcnt,popcnt"
    )]
    unsafe fn run<W: WithKernel<Pair>>(computation: W, v4: V4) -> W::Output {
        computation.with_kernel(Avx512(v4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sums([f32; LANES]);

    impl WithKernel<Pair> for Sums {
        type Output = [f32; LANES];

        #[inline(always)]
        fn with_kernel<K: Kernel<Factor = Pair>>(self, kernel: K) -> [f32; LANES] {
            let right: [Pair; LANES] =
                core::array::from_fn(|i| Pair::of([1.0 + i as f32 / 8.0, -3.0]));
            let mut sums = self.0;
            for lanes in 0..LANES / K::LANES {
                let range = lanes * K::LANES..(lanes + 1) * K::LANES;
                let before = kernel.load(&sums[range.clone()]);
                let left = Pair::of([0.5, 0.25]);
                let after = kernel.multiply_add(left, &right[range.clone()], before);
                kernel.store(&mut sums[range], after);
            }
            sums
        }
    }

    /// With numbers whose products and sums are exact.
    #[test]
    fn instruction_adds_both_products() {
        if !Pair::is_fast() {
            eprintln!("SKIPPED: this processor does not multiply pairs of bf16");
        }
        let before = core::array::from_fn(|i| i as f32);
        let expected = before.map(|x| x + 0.5 * (1.0 + x / 8.0) - 0.75);
        assert_eq!(Sums(before).with_kernel(Portable), expected);
        assert_eq!(Pair::dispatch(Sums(before)), expected);
    }
}
