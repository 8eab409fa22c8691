//! Burn's backends without kernels of ours: all operations are the reference's, in Burn's tensor
//! operations. Here because only this crate or theirs may implement the trait for them.

use super::ReformerBackend;

#[cfg(feature = "candle")]
#[allow(deprecated)] // Burn will drop it.
impl<F, I> ReformerBackend for burn_candle::Candle<F, I>
where
    F: burn_candle::FloatCandleElement,
    I: burn_candle::IntCandleElement,
{
}

#[cfg(feature = "tch")]
impl<E: burn_tch::TchElement> ReformerBackend for burn_tch::LibTorch<E> {}
