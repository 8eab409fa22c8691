//! What can be wrong with a configuration.

use thiserror::Error;

/// A setting that cannot work: which one, its value, the law it breaks and the way out.
///
/// ```
/// use reformer_core::attention::HeadsConfig;
///
/// let error = HeadsConfig::new(64, 3).validate().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "`n_heads` is 3, but it must divide `d_model` (64): change one of them or set `d_head`"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{field}` is {value}, but {law}: {remedy}")]
pub struct ConfigError {
    /// The setting, as it is written in the configuration.
    pub field: String,
    /// The value it has.
    pub value: String,
    /// The rule that the value breaks, with its limit.
    pub law: String,
    /// What would work instead.
    pub remedy: String,
}

impl ConfigError {
    /// Describes a broken law.
    pub fn new(
        field: impl Into<String>,
        value: impl core::fmt::Display,
        law: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            value: value.to_string(),
            law: law.into(),
            remedy: remedy.into(),
        }
    }

    /// Refuses zero, for counts and lengths.
    pub(crate) fn at_least_one(field: &str, value: usize) -> Result<(), Self> {
        if value == 0 {
            return Err(Self::new(field, value, "it must be at least 1", "raise it"));
        }
        Ok(())
    }

    /// Refuses what is not a share in `[0, 1)`, for dropout rates.
    pub(crate) fn share(field: &str, value: f64) -> Result<(), Self> {
        if !(0.0..1.0).contains(&value) {
            return Err(Self::new(
                field,
                value,
                "a dropout rate lies in [0, 1)",
                "use 0 to switch it off",
            ));
        }
        Ok(())
    }
}
