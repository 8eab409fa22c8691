//! `bf16`: the upper half of an `f32`, rounded to even.

/// The bits of the nearest `bf16`.
pub(super) fn to_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        // Rounding could turn a NaN into an infinity.
        return (bits >> 16) as u16 | 0x40;
    }
    let is_odd = (bits >> 16) & 1;
    // Values that are too large become infinite, as they should.
    ((bits + 0x7FFF + is_odd) >> 16) as u16
}

pub(super) fn from_bits(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rounded(value: f32) -> f32 {
        from_bits(to_bits(value))
    }

    #[test]
    fn halves_stay_and_ties_go_to_even() {
        for value in [
            0.0,
            -1.0,
            0.5,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MIN_POSITIVE,
        ] {
            assert_eq!(rounded(value), value);
        }
        let step = 2f32.powi(-7);
        assert_eq!(rounded(1.0 + step / 2.0), 1.0);
        assert_eq!(rounded(1.0 + 1.5 * step), 1.0 + 2.0 * step);
        assert_eq!(rounded(f32::MAX), f32::INFINITY);
        assert!(rounded(f32::NAN).is_nan());
        assert!(rounded(f32::from_bits(0x7F80_0001)).is_nan());
    }

    proptest! {
        #[test]
        fn error_is_half_a_step_at_most(value in -1e30f32..1e30) {
            prop_assert!((rounded(value) - value).abs() <= value.abs() * 2f32.powi(-8));
        }
    }
}
