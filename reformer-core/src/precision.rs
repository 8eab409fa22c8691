//! Floating-point type of the computation inside a model's blocks.
//!
//! Weights, residual streams, normalisation, softmax and the loss stay in `f32`. Inputs of F and G
//! of a block, and of the output projection, are cast down. Weights are cast where they are used,
//! so their gradients are in `f32`. Results are cast up before they are added to a stream
//! (Micikevicius et al., "Mixed Precision Training", ICLR 2018).

use burn::config::Config;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};

use crate::error::ConfigError;

/// The type of activations inside blocks.
///
/// ```
/// use burn_flex::Flex;
/// use burn_ndarray::NdArray;
/// use reformer_core::Precision;
///
/// assert!(Precision::Bf16.check::<Flex>(&Default::default()).is_ok());
/// let error = Precision::Bf16.check::<NdArray>(&Default::default()).unwrap_err();
/// assert_eq!(error.field, "precision");
/// ```
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Precision {
    /// That of the weights. NVIDIA GPUs since Ampere may multiply `f32` matrices in TF32, with 11
    /// binary digits per factor: Burn selects the faster kernel by measurement.
    Full,
    /// `bf16`: the range of `f32` with 8 binary digits.
    Bf16,
    /// `f16`: 11 binary digits, values up to 65,504. Small gradients become zero unless the loss is
    /// [scaled](crate::model::Trainable::scaled_gradients).
    F16,
}

impl Precision {
    /// The corresponding type; `None` for that of the weights.
    pub fn dtype(self) -> Option<DType> {
        match self {
            Self::Full => None,
            Self::Bf16 => Some(DType::BF16),
            Self::F16 => Some(DType::F16),
        }
    }

    /// Checks that a device can compute in this type.
    ///
    /// # Errors
    /// A device that does not support it, with the name of its backend.
    pub fn check<B: Backend>(self, device: &B::Device) -> Result<(), ConfigError> {
        match self.dtype() {
            Some(dtype) if !B::supports_dtype(device, dtype) => Err(ConfigError::new(
                "precision",
                format!("{self:?}"),
                format!(
                    "the backend {} cannot compute in it on {device:?}",
                    B::name(device)
                ),
                "use f32, or another device",
            )),
            _ => Ok(()),
        }
    }

    /// Casts the input of a block or of the output projection.
    pub(crate) fn lower<B: Backend, const D: usize>(self, x: Tensor<B, D>) -> Tensor<B, D> {
        match self.dtype() {
            Some(dtype) => x.cast(dtype),
            None => x,
        }
    }
}

/// Casts half precision to `f32` and leaves other types unchanged.
pub(crate) fn widen<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    match x.dtype() {
        DType::F16 | DType::BF16 => x.cast(DType::F32),
        _ => x,
    }
}

#[cfg(all(test, feature = "ndarray", feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_refused_where_there_is_none() {
        for precision in [Precision::Bf16, Precision::F16] {
            let device = Default::default();
            precision.check::<burn_flex::Flex>(&device).unwrap();
            let device = Default::default();
            let error = precision.check::<burn_ndarray::NdArray>(&device);
            assert_eq!(error.unwrap_err().field, "precision");
        }
    }
}
