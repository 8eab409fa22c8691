//! In which floating-point type the blocks of a model compute.
//!
//! Weights, residual streams, normalisation, softmax and the loss stay in `f32`. What goes into F
//! and G of a block, and into the output projection, is cast down; weights are cast where they are
//! used, so their gradients arrive in `f32`; results are cast up before they are added to a stream
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
    /// That of the weights. NVIDIA GPUs since Ampere may multiply matrices of `f32` in TF32, with factors of
    /// 11 binary digits: Burn chooses by what was faster.
    Full,
    /// `bf16`: the range of `f32` with 8 binary digits.
    Bf16,
    /// `f16`: 11 binary digits up to 65,504. Small gradients vanish unless the loss is
    /// [scaled](crate::model::ReformerLm::scaled_gradients).
    F16,
}

impl Precision {
    /// The type it stands for; none for that of the weights.
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
    /// A device that cannot, by the name of its backend.
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

    /// Casts what a block or the output projection works on.
    pub(crate) fn lower<B: Backend, const D: usize>(self, x: Tensor<B, D>) -> Tensor<B, D> {
        match self.dtype() {
            Some(dtype) => x.cast(dtype),
            None => x,
        }
    }
}

/// Casts half precision to `f32`, and leaves every other type as it is.
pub(crate) fn widen<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    match x.dtype() {
        DType::F16 | DType::BF16 => x.cast(DType::F32),
        _ => x,
    }
}
