//! Tensors as slices of host memory.

use core::marker::PhantomData;

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Tensor, TensorPrimitive};

use super::element::{Element, converted, data};

/// Backends that give access to the memory of their tensors.
pub(in crate::kernels) trait Host: Backend {
    /// The memory of a tensor of type `E` from its first element on, and its strides. `None` for
    /// other types and for layouts that cannot be a slice.
    fn lend<E: Element>(primitive: &Self::FloatTensorPrimitive) -> Option<(&[E], Vec<usize>)>;

    /// The memory of a tensor of type `E` in row-major order, for writing: its own if it is not
    /// shared, otherwise a copy. `None` if [`lend`](Self::lend) returns `None`, for other memory
    /// orders, and if assigning to a slice of the tensor would copy no more than this.
    fn lend_mut<E: Element>(_primitive: &mut Self::FloatTensorPrimitive) -> Option<&mut [E]> {
        None
    }
}

fn strides_forward(strides: &[isize]) -> Option<Vec<usize>> {
    strides
        .iter()
        .map(|&stride| stride.try_into().ok())
        .collect()
}

#[cfg(feature = "flex")]
impl Host for burn_flex::Flex {
    fn lend<E: Element>(primitive: &burn_flex::FlexTensor) -> Option<(&[E], Vec<usize>)> {
        if primitive.dtype() != E::dtype() {
            return None;
        }
        let layout = primitive.layout();
        let memory = E::in_flex(primitive).get(layout.start_offset()..)?;
        Some((memory, strides_forward(layout.strides())?))
    }

    fn lend_mut<E: Element>(primitive: &mut burn_flex::FlexTensor) -> Option<&mut [E]> {
        let is_whole = primitive.is_contiguous() && primitive.layout().start_offset() == 0;
        let n = primitive.layout().num_elements();
        (primitive.dtype() == E::dtype() && is_whole).then(|| &mut E::in_flex_mut(primitive)[..n])
    }
}

#[cfg(feature = "ndarray")]
impl<E, I> Host for burn_ndarray::NdArray<E, I>
where
    E: burn_ndarray::FloatNdArrayElement,
    I: burn_ndarray::IntNdArrayElement,
    burn_ndarray::NdArrayTensor: From<burn_ndarray::SharedArray<E>>,
    burn_ndarray::NdArrayTensor: From<burn_ndarray::SharedArray<I>>,
{
    fn lend<F: Element>(primitive: &burn_ndarray::NdArrayTensor) -> Option<(&[F], Vec<usize>)> {
        let burn_ndarray::NdArrayTensor::F32(storage) = primitive else {
            return None;
        };
        let view = storage.view();
        let strides = strides_forward(view.strides())?;
        // Strides are not negative, so the first element has the lowest address.
        Some((F::of_f32(view.to_slice_memory_order()?)?, strides))
    }
}

/// A tensor of numbers of type `E` whose rows (along the last dimension) are slices.
pub(super) struct Floats<B: Host, const D: usize, E = f32> {
    primitive: B::FloatTensorPrimitive,
    shape: [usize; D],
    strides: Vec<usize>,
    element: PhantomData<E>,
}

impl<B: Host, const D: usize, E: Element> Floats<B, D, E> {
    /// Borrows a tensor if its rows are slices; copies it otherwise.
    pub(super) fn rows_of(tensor: Tensor<B, D>) -> Self {
        Self::lent(tensor, |shape, strides| {
            shape[D - 1] == 1 || strides[D - 1] == 1
        })
    }

    /// Borrows a tensor if it is in row-major order; copies it otherwise.
    pub(super) fn row_major(tensor: Tensor<B, D>) -> Self {
        Self::lent(tensor, |shape, strides| {
            let mut expected = 1;
            shape.iter().zip(strides).rev().all(|(&size, &stride)| {
                let fits = size == 1 || stride == expected;
                expected *= size;
                fits
            })
        })
    }

    /// Borrows a tensor with any strides.
    pub(super) fn as_it_lies(tensor: Tensor<B, D>) -> Self {
        Self::lent(tensor, |_, _| true)
    }

    /// Borrows a tensor if it is of this type and its shape and strides are suitable; copies and
    /// converts it in row-major order otherwise.
    pub(super) fn lent(
        floats: Tensor<B, D>,
        suits: impl Fn(&[usize; D], &[usize]) -> bool,
    ) -> Self {
        let shape = floats.dims();
        let device = floats.device();
        let primitive = floats.into_primitive().tensor();
        if let Some((_, strides)) = B::lend::<E>(&primitive)
            && suits(&shape, &strides)
        {
            return Self {
                primitive,
                shape,
                strides,
                element: PhantomData,
            };
        }
        let copy = numbers::<E, B, D>(Tensor::from_primitive(TensorPrimitive::Float(primitive)));
        let copy: Tensor<B, D> = tensor(copy, shape, E::dtype(), &device);
        let primitive = copy.into_primitive().tensor();
        let (_, strides) = B::lend::<E>(&primitive).expect("fresh data is a slice");
        Self {
            primitive,
            shape,
            strides,
            element: PhantomData,
        }
    }

    /// All numbers from the first one on. In row-major order only if requested at construction.
    pub(super) fn slice(&self) -> &[E] {
        let (memory, _) = B::lend(&self.primitive).expect("it was a slice when it was taken");
        memory
    }

    pub(super) fn shape(&self) -> [usize; D] {
        self.shape
    }

    pub(super) fn strides(&self) -> &[usize] {
        &self.strides
    }
}

/// Rows of one head.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, E = f32> {
    memory: &'a [E],
    stride: usize,
    /// Width of a row.
    pub(super) d: usize,
}

impl<'a, E: Element> Rows<'a, E> {
    #[inline(always)]
    pub(super) fn row(&self, number: usize) -> &'a [E] {
        &self.memory[number * self.stride..][..self.d]
    }
}

impl<B: Host, E: Element> Floats<B, 4, E> {
    /// Rows of head `number`, numbered across the batch, of `[batch_size, n_heads, seq_length, d]`.
    pub(super) fn head(&self, number: usize) -> Rows<'_, E> {
        let [_, n_heads, _, d] = self.shape;
        let (batch, head) = (number / n_heads, number % n_heads);
        Rows {
            memory: &self.slice()[batch * self.strides[0] + head * self.strides[1]..],
            stride: self.strides[2],
            d,
        }
    }
}

/// The values of an integer tensor in row-major order.
pub(super) fn integers<B: Backend, const D: usize>(tensor: &Tensor<B, D, Int>) -> Vec<i32> {
    let data = tensor.to_data();
    match data.dtype {
        DType::I32 => data.into_vec().expect("its type was looked at"),
        _ => data.iter::<i32>().collect(),
    }
}

/// The numbers of a float tensor in row-major order, converted unless they are of this type: the
/// tensor's own memory if it is not shared.
pub(super) fn numbers<E: Element, B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<E> {
    converted(tensor.into_data())
}

/// A tensor of a type from numbers in row-major order.
pub(super) fn tensor<E: Element, B: Backend, const D: usize>(
    numbers: Vec<E>,
    shape: [usize; D],
    dtype: DType,
    device: &B::Device,
) -> Tensor<B, D> {
    Tensor::from_data(data(numbers, shape.to_vec(), dtype), (device, dtype))
}
