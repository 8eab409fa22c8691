//! Number formats of tensors that kernels read and write as they lie in memory.

use burn::tensor::{DType, TensorData, bf16, f16};
use rayon::prelude::*;

use super::head::{Scratch, ThreadScratch};
use super::pairs::Pair;
use super::product::Factor;
use super::simd::vectorized;

/// `f32`, or `bf16` on processors that multiply [pairs](Pair) of it. Other formats are converted to
/// `f32` first.
pub(in crate::kernels) trait Element:
    burn::tensor::Element + Default + Sync
{
    /// What products are made of.
    type Factor: Factor;

    fn wide(self) -> f32;

    /// Rounds to the nearest number, ties to even.
    fn narrow(x: f32) -> Self;

    fn to_bf16(self) -> bf16 {
        bf16::narrow(self.wide())
    }

    /// The same numbers, if they are `f32`.
    #[inline(always)]
    fn as_f32(_numbers: &[Self]) -> Option<&[f32]> {
        None
    }

    /// The inverse: `f32` in this format, if it is that.
    #[inline(always)]
    fn of_f32(_numbers: &[f32]) -> Option<&[Self]> {
        None
    }

    /// The buffers of a thread for this format.
    fn scratch(of_thread: &mut ThreadScratch) -> &mut Scratch<Self>;

    /// The memory of a tensor of this type.
    #[cfg(feature = "flex")]
    fn in_flex(tensor: &burn_flex::FlexTensor) -> &[Self];

    /// The same, for writing: its own if it is not shared, otherwise a copy.
    #[cfg(feature = "flex")]
    fn in_flex_mut(tensor: &mut burn_flex::FlexTensor) -> &mut [Self];
}

impl Element for f32 {
    type Factor = f32;

    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    #[inline(always)]
    fn narrow(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn as_f32(numbers: &[Self]) -> Option<&[f32]> {
        Some(numbers)
    }

    #[inline(always)]
    fn of_f32(numbers: &[f32]) -> Option<&[Self]> {
        Some(numbers)
    }

    fn scratch(of_thread: &mut ThreadScratch) -> &mut Scratch<Self> {
        &mut of_thread.of_f32
    }

    #[cfg(feature = "flex")]
    fn in_flex(tensor: &burn_flex::FlexTensor) -> &[Self] {
        tensor.storage()
    }

    #[cfg(feature = "flex")]
    fn in_flex_mut(tensor: &mut burn_flex::FlexTensor) -> &mut [Self] {
        tensor.storage_mut()
    }
}

impl Element for bf16 {
    type Factor = Pair;

    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    /// Without the branches of the crate `half`, so that loops are vectorised.
    #[inline(always)]
    fn narrow(x: f32) -> Self {
        let bits = x.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        // Rounding could carry a NaN into the sign; a quiet one stays a NaN.
        let nan = bits >> 16 | 0x40;
        let is_nan = bits & 0x7fff_ffff > 0x7f80_0000;
        Self::from_bits(if is_nan { nan } else { rounded } as u16)
    }

    #[inline(always)]
    fn to_bf16(self) -> bf16 {
        self
    }

    fn scratch(of_thread: &mut ThreadScratch) -> &mut Scratch<Self> {
        &mut of_thread.of_bf16
    }

    #[cfg(feature = "flex")]
    fn in_flex(tensor: &burn_flex::FlexTensor) -> &[Self] {
        tensor.storage()
    }

    #[cfg(feature = "flex")]
    fn in_flex_mut(tensor: &mut burn_flex::FlexTensor) -> &mut [Self] {
        tensor.storage_mut()
    }
}

/// Evaluates an expression with `$element` for the format in which tensors of a type are computed.
macro_rules! with_element {
    ($dtype:expr, $element:ident => $body:expr) => {
        if $crate::kernels::cpu::pairs::Pair::serves($dtype) {
            type $element = burn::tensor::bf16;
            $body
        } else {
            type $element = f32;
            $body
        }
    };
}
pub(super) use with_element;

/// Numbers as `f32`, copied unless they are.
#[inline(always)]
pub(super) fn widened<'a, E: Element>(copy: &'a mut Vec<f32>, numbers: &'a [E]) -> &'a [f32] {
    if let Some(numbers) = E::as_f32(numbers) {
        return numbers;
    }
    copy.resize(numbers.len(), 0.0);
    for (to, number) in copy.iter_mut().zip(numbers) {
        *to = number.wide();
    }
    copy
}

/// Numbers per thread task.
const BLOCK: usize = 1 << 14;

/// The numbers of a tensor of any float type, converted unless they are of this format.
pub(super) fn converted<E: Element>(data: TensorData) -> Vec<E> {
    if data.dtype == E::dtype() {
        return data.into_vec().expect("it is of this type");
    }
    match data.dtype {
        DType::F32 => map(&data.into_vec::<f32>().expect("checked"), |x| E::narrow(x)),
        DType::BF16 => map(&data.into_vec::<bf16>().expect("checked"), |x: bf16| {
            E::narrow(x.wide())
        }),
        DType::F16 => map(&data.into_vec::<f16>().expect("checked"), |x: f16| {
            E::narrow(x.to_f32())
        }),
        _ => data.iter::<f32>().map(E::narrow).collect(),
    }
}

/// Numbers of this format as data of any float type.
pub(super) fn data<E: Element>(numbers: Vec<E>, shape: Vec<usize>, dtype: DType) -> TensorData {
    if dtype == E::dtype() {
        return TensorData::new(numbers, shape);
    }
    match dtype {
        DType::BF16 => TensorData::new(map(&numbers, |x| bf16::narrow(x.wide())), shape),
        DType::F16 => TensorData::new(map(&numbers, |x| f16::from_f32(x.wide())), shape),
        DType::F32 => TensorData::new(map(&numbers, |x| x.wide()), shape),
        _ => TensorData::new(numbers, shape).convert_dtype(dtype),
    }
}

fn map<T: Copy + Sync, U: Copy + Default + Send>(
    numbers: &[T],
    of: impl Fn(T) -> U + Sync,
) -> Vec<U> {
    let mut mapped = vec![U::default(); numbers.len()];
    let blocks = mapped.par_chunks_mut(BLOCK).zip(numbers.par_chunks(BLOCK));
    blocks.for_each(|(mapped, numbers)| {
        vectorized(
            #[inline(always)]
            || {
                for (to, &number) in mapped.iter_mut().zip(numbers) {
                    *to = of(number);
                }
            },
        );
    });
    mapped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All numbers of half precision, their neighbours, and what lies between.
    #[test]
    fn rounding_to_bf16_is_that_of_the_crate_half() {
        for bits in (0..=u32::MAX).step_by(0x1003) {
            let x = f32::from_bits(bits);
            let (found, expected) = (bf16::narrow(x), bf16::from_f32(x));
            assert!(
                found.to_bits() == expected.to_bits() || x.is_nan() && found.is_nan(),
                "{x:e} ({bits:#x}): {found} instead of {expected}"
            );
            assert_eq!(found.wide().to_bits(), found.to_f32().to_bits());
        }
    }
}
