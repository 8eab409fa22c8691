//! Tensors of a CubeCL runtime, and the grids of kernels.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Shape, Tensor, TensorPrimitive};
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::client::ComputeClient;
use burn_cubecl::cubecl::ir::features::MmaConfig;
use burn_cubecl::cubecl::prelude::{AddressType, CubeCount, CubeDim};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

use super::common::WIDTH;
use crate::kernels::ReformerBackend;

/// Burn's tensors under names that do not collide with CubeCL's.
pub(super) type Floats<B, const D: usize> = Tensor<B, D>;
pub(super) type Ints<B, const D: usize> = Tensor<B, D, Int>;

/// A backend whose tensors are those of a CubeCL runtime.
pub(in crate::kernels) trait Cube: ReformerBackend {
    type Runtime: CubeRuntime;

    fn floats<const D: usize>(tensor: Tensor<Self, D>) -> CubeTensor<Self::Runtime>;

    fn ints<const D: usize>(tensor: Tensor<Self, D, Int>) -> CubeTensor<Self::Runtime>;

    fn of_floats<const D: usize>(tensor: CubeTensor<Self::Runtime>) -> Tensor<Self, D>;

    fn of_ints<const D: usize>(tensor: CubeTensor<Self::Runtime>) -> Tensor<Self, D, Int>;
}

impl<R, F, I, BT> Cube for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    type Runtime = R;

    fn floats<const D: usize>(tensor: Tensor<Self, D>) -> CubeTensor<R> {
        tensor.into_primitive().tensor()
    }

    fn ints<const D: usize>(tensor: Tensor<Self, D, Int>) -> CubeTensor<R> {
        tensor.into_primitive()
    }

    fn of_floats<const D: usize>(tensor: CubeTensor<R>) -> Tensor<Self, D> {
        Tensor::from_primitive(TensorPrimitive::Float(tensor))
    }

    fn of_ints<const D: usize>(tensor: CubeTensor<R>) -> Tensor<Self, D, Int> {
        Tensor::from_primitive(tensor)
    }
}

/// Whether these kernels support a type; otherwise the reference is used.
pub(super) fn serves_type(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

/// Whether these kernels support the type of a tensor.
pub(super) fn serves<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> bool {
    serves_type(tensor.dtype())
}

/// Whether a tensor is in single precision.
pub(super) fn single<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> bool {
    tensor.dtype() == DType::F32
}

/// Whether a device has tensor cores for matrices of this type with accumulation in single
/// precision, in the sizes that these kernels use, loads such matrices to registers in the
/// layout that they rely on, and copies to shared memory while units compute.
pub(super) fn has_tensor_cores<R: CubeRuntime>(client: &ComputeClient<R>, dtype: DType) -> bool {
    let properties = client.properties();
    let plane = (
        properties.hardware.plane_size_min,
        properties.hardware.plane_size_max,
    );
    let products = MmaConfig {
        a_type: dtype.into(),
        b_type: dtype.into(),
        cd_type: DType::F32.into(),
        m: 16,
        n: 8,
        k: 16,
    };
    let features = &properties.features;
    plane == (32, 32)
        && features.copy_async
        && features.matmul.mma.contains(&products)
        && features.matmul.ldmatrix.contains(&dtype.into())
}

/// An uninitialised row-major tensor on the same device as another one.
pub(super) fn empty<R: CubeRuntime, const D: usize>(
    beside: &CubeTensor<R>,
    shape: [usize; D],
    dtype: DType,
) -> CubeTensor<R> {
    let (client, device) = (beside.client.clone(), beside.device.clone());
    empty_device_contiguous_dtype(client, device, Shape::new(shape), dtype)
}

/// The address type that can index all elements of these tensors.
pub(super) fn offsets<R: CubeRuntime>(tensors: &[&CubeTensor<R>]) -> AddressType {
    let types = tensors.iter().map(|tensor| tensor.required_address_type());
    types.max().unwrap_or_default()
}

/// Vector width for reading rows: [`WIDTH`] if the rows of all tensors consist of such vectors,
/// otherwise 1.
pub(super) fn width<R: CubeRuntime>(tensors: &[&CubeTensor<R>]) -> usize {
    let fits = |tensor: &&CubeTensor<R>| {
        let mut strides = tensor.meta.strides().iter().rev();
        let shape = tensor.meta.shape();
        shape.last().is_some_and(|d| d.is_multiple_of(WIDTH))
            && strides.next() == Some(&1)
            && strides.all(|stride| stride.is_multiple_of(WIDTH))
    };
    if tensors.iter().all(fits) { WIDTH } else { 1 }
}

/// The tensor itself if the features of a row are contiguous, otherwise a contiguous copy.
pub(super) fn side_by_side<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    match tensor.meta.strides().last() {
        Some(1) => tensor,
        _ => into_contiguous(tensor),
    }
}

/// Whether a tensor is not shared, so that it can be written to.
pub(super) fn is_own<R: CubeRuntime>(tensor: &CubeTensor<R>) -> bool {
    tensor.can_mut() && tensor.is_nonoverlapping()
}

/// A grid of `x` by `y` cubes. `y` may exceed the limit of one dimension: kernels call
/// [`cube_y`](super::common::cube_y), which may return indices beyond `y`.
pub(super) fn grid<R: CubeRuntime>(client: &ComputeClient<R>, x: usize, y: usize) -> CubeCount {
    let limit = client.properties().hardware.max_cube_count.1 as usize;
    let z = y.div_ceil(limit);
    CubeCount::Static(x as u32, y.div_ceil(z) as u32, z as u32)
}

/// A one-dimensional grid of `n` cubes, spread over as few dimensions as the device allows; it may
/// contain more cubes than `n`.
pub(super) fn cubes<R: CubeRuntime>(client: &ComputeClient<R>, n: usize) -> CubeCount {
    calculate_cube_count_elemwise(client, n, CubeDim::new_single())
}

/// Divides the largest possible allocation into the share that chunks may take.
const SHARE_OF_CHUNK: usize = 16;

/// The same for one tensor of the separate results of attention rounds. CubeCL takes pages of a sixteenth of
/// the largest allocation for tensors of up to a quarter of such a page, and larger pages for larger ones.
const SHARE_OF_ROUNDS: usize = 64;

/// See [`ReformerBackend::at_once`].
pub(super) fn at_once<R: CubeRuntime>(n: usize, bytes: usize, device: &R::Device) -> usize {
    n.max(most_at_once(&R::client(device)) / SHARE_OF_CHUNK / bytes.max(1))
}

/// Maximum number of bytes for a tensor with results of attention rounds.
pub(super) fn room_for_rounds<R: CubeRuntime>(client: &ComputeClient<R>) -> usize {
    most_at_once(client) / SHARE_OF_ROUNDS
}

/// Whether a tensor of a sequence takes so much of a device's memory that it should not stand beside one more.
pub(super) fn is_large<R: CubeRuntime>(client: &ComputeClient<R>, bytes: usize) -> bool {
    bytes > most_at_once(client) / SHARE_OF_CHUNK
}

/// Bytes of the largest allocation on a device.
fn most_at_once<R: CubeRuntime>(client: &ComputeClient<R>) -> usize {
    client.properties().memory.max_page_size as usize
}
