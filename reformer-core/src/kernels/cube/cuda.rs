//! Functions for CUDA only.

use std::any::Any;

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::client::ComputeClient;
use burn_cubecl::tensor::CubeTensor;
use cubecl_cuda::{CudaDevice, CudaRuntime};

use crate::kernels::DeviceAddress;

/// Address of a tensor, if its runtime is CUDA. All previous work on the tensor has been submitted
/// to the driver.
pub(super) fn device_address<R: CubeRuntime>(tensor: CubeTensor<R>) -> Option<DeviceAddress> {
    if !tensor.is_contiguous() {
        return None;
    }
    let client: &dyn Any = &tensor.client;
    let client: &ComputeClient<CudaRuntime> = client.downcast_ref()?;
    let device: &dyn Any = &tensor.device;
    let device: &CudaDevice = device.downcast_ref()?;
    let resource = client.get_resource(tensor.handle.clone()).ok()?;
    Some(DeviceAddress {
        device: device.index,
        address: resource.resource().ptr,
    })
}
