//! Errors in a configuration.

use thiserror::Error;

/// A setting that cannot work: its name, its value, the violated rule and a remedy.
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
    /// The setting, as named in the configuration.
    pub field: String,
    /// Its value.
    pub value: String,
    /// The violated rule, with its limit.
    pub law: String,
    /// Values that would work.
    pub remedy: String,
}

impl ConfigError {
    /// Describes a violated rule.
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

    /// Checks that a count or length is not zero.
    ///
    /// # Errors
    /// Zero.
    pub fn at_least_one(field: &str, value: usize) -> Result<(), Self> {
        if value == 0 {
            return Err(Self::new(field, value, "it must be at least 1", "raise it"));
        }
        Ok(())
    }

    /// Checks an upper limit, such as that of memory or of an index type.
    ///
    /// # Errors
    /// More.
    pub fn at_most(field: &str, value: usize, limit: usize) -> Result<(), Self> {
        if value > limit {
            let law = format!("it can be at most {limit}");
            return Err(Self::new(field, value, law, "lower it"));
        }
        Ok(())
    }

    /// Checks that a number is finite.
    pub(crate) fn finite(field: &str, value: f64) -> Result<(), Self> {
        if !value.is_finite() {
            return Err(Self::new(field, value, "it must be a number", "use one"));
        }
        Ok(())
    }

    /// Checks that a number is finite and above 0.
    ///
    /// # Errors
    /// Any other number.
    pub fn positive(field: &str, value: f64) -> Result<(), Self> {
        Self::finite(field, value)?;
        if value <= 0.0 {
            return Err(Self::new(field, value, "it must be above 0", "raise it"));
        }
        Ok(())
    }

    /// Checks that a number can be a standard deviation.
    pub(crate) fn deviation(field: &str, value: f64) -> Result<(), Self> {
        Self::finite(field, value)?;
        if value < 0.0 {
            let law = "a standard deviation is not below 0";
            return Err(Self::new(field, value, law, "raise it"));
        }
        Ok(())
    }

    /// Checks that a share lies in `[0, 1)`, for dropout rates.
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
