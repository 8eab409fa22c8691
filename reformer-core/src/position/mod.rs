//! Positional information: embeddings added to tokens, and rotations of queries and keys.

mod waves;

use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

pub(crate) use waves::{frequencies, sin_cos};

use crate::error::ConfigError;

/// Kinds of positional information.
#[derive(Config, Debug, PartialEq)]
pub enum PositionConfig {
    /// Axial positions: several axes, such as row, column and channel of pixels; each axis gives
    /// some of the features (paper's code; Hugging Face has two axes). Table sizes grow with the
    /// sum of the axis lengths instead of their product.
    Axial {
        /// Length of each axis, slowest first. Their product limits the sequence length.
        shape: Vec<usize>,
        /// Number of features of each axis. Their sum is `d_model`.
        dims: Vec<usize>,
        /// Standard deviation of the initial tables.
        std: f64,
    },
    /// A vector for each position.
    Learned {
        /// Longest sequence.
        max_length: usize,
        /// Standard deviation of the initial table.
        std: f64,
        /// Whether the table is initialised with sinusoids of this standard deviation, where
        /// neighbours are similar, instead of random numbers.
        sinusoidal: bool,
    },
    /// Fixed sine and cosine waves, for any length.
    Sinusoidal,
    /// Rotation of queries and keys, for any length.
    Rotary {
        /// Base of the wavelengths, usually 10,000.
        base: f64,
    },
    /// No positional information.
    None,
}

impl PositionConfig {
    /// Maximum sequence length, if there is a limit.
    pub fn max_length(&self) -> Option<usize> {
        match self {
            Self::Axial { shape, .. } => Some(shape.iter().product()),
            Self::Learned { max_length, .. } => Some(*max_length),
            Self::Sinusoidal | Self::Rotary { .. } | Self::None => None,
        }
    }

    /// Base of rotary positions, which attention applies.
    pub fn rotary_base(&self) -> Option<f64> {
        match self {
            Self::Rotary { base } => Some(*base),
            _ => None,
        }
    }

    /// Checks every setting with respect to the width of the model.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self, d_model: usize) -> Result<(), ConfigError> {
        match self {
            Self::Axial { shape, dims, .. } => validate_axes(shape, dims, d_model),
            Self::Learned {
                max_length,
                sinusoidal,
                ..
            } => {
                ConfigError::at_least_one("position.max_length", *max_length)?;
                if *sinusoidal { even(d_model) } else { Ok(()) }
            }
            Self::Rotary { base } if *base <= 1.0 => Err(ConfigError::new(
                "position.base",
                base,
                "wave lengths grow with the base",
                "use 10000",
            )),
            Self::Sinusoidal => even(d_model),
            Self::Rotary { .. } | Self::None => Ok(()),
        }
    }

    /// Initialises the tables.
    ///
    /// # Panics
    /// If the configuration is not [valid](Self::validate).
    pub fn init<B: Backend>(&self, d_model: usize, device: &B::Device) -> Position<B> {
        if let Err(error) = self.validate(d_model) {
            panic!("{error}");
        }
        let table = |length: usize, features: usize, std: f64| {
            Initializer::Normal { mean: 0.0, std }.init([length, features], device)
        };
        let tables = match self {
            Self::Axial { shape, dims, std } => shape
                .iter()
                .zip(dims)
                .map(|(length, features)| table(*length, *features, *std))
                .collect(),
            Self::Learned {
                max_length,
                std,
                sinusoidal: true,
            } => {
                // The mean square of a sine is one half.
                let waves = waves::sinusoids(0..*max_length, d_model, device);
                vec![Param::from_tensor(waves * (std * 2f64.sqrt()))]
            }
            Self::Learned {
                max_length, std, ..
            } => vec![table(*max_length, d_model, *std)],
            Self::Sinusoidal | Self::Rotary { .. } | Self::None => vec![],
        };
        Position {
            tables,
            d_model,
            config: self.clone(),
        }
    }
}

fn even(d_model: usize) -> Result<(), ConfigError> {
    if d_model.is_multiple_of(2) {
        return Ok(());
    }
    Err(ConfigError::new(
        "d_model",
        d_model,
        "sinusoidal positions come in pairs of sine and cosine",
        "make it even",
    ))
}

fn validate_axes(shape: &[usize], dims: &[usize], d_model: usize) -> Result<(), ConfigError> {
    if shape.is_empty() || shape.len() != dims.len() || shape.contains(&0) {
        return Err(ConfigError::new(
            "position.shape",
            format!("{shape:?}"),
            format!("every axis needs a length and features (dims {dims:?})"),
            "give as many lengths as dims, none of them 0",
        ));
    }
    let sum: usize = dims.iter().sum();
    if sum != d_model || dims.contains(&0) {
        return Err(ConfigError::new(
            "position.dims",
            format!("{dims:?}"),
            format!("they must add up to `d_model` ({d_model}), but make {sum}"),
            "divide `d_model` among the axes",
        ));
    }
    Ok(())
}

/// Position embeddings, added to those of tokens.
///
/// ```
/// use burn_flex::Flex;
/// use reformer_core::position::PositionConfig;
///
/// let device = Default::default();
/// let shape = vec![64, 64, 3]; // rows, columns, channels of a picture
/// let config = PositionConfig::Axial { shape, dims: vec![24, 24, 16], std: 1.0 };
/// let position = config.init::<Flex>(64, &device);
/// assert_eq!(position.forward(12_288, &device).unwrap().dims(), [12_288, 64]);
/// ```
#[derive(Module, Debug)]
pub struct Position<B: Backend> {
    /// One table for each axis: `[length, features]`. Learned positions have one axis.
    pub tables: Vec<Param<Tensor<B, 2>>>,
    d_model: usize,
    #[module(skip)]
    config: PositionConfig,
}

impl<B: Backend> Position<B> {
    /// Embeddings of the first `seq_length` positions, or `None` for kinds without embeddings.
    ///
    /// # Shapes
    /// - output: `[seq_length, d_model]`
    ///
    /// # Panics
    /// If the sequence is longer than [`PositionConfig::max_length`].
    pub fn forward(&self, seq_length: usize, device: &B::Device) -> Option<Tensor<B, 2>> {
        if let Some(max_length) = self.config.max_length() {
            assert!(
                seq_length <= max_length,
                "a sequence of {seq_length} is longer than the {max_length} positions of the model"
            );
        }
        self.at(0..seq_length, device)
    }

    /// Embeddings of single positions, or `None` for kinds without embeddings.
    ///
    /// # Shapes
    /// - output: `[positions, d_model]`
    pub(crate) fn at(
        &self,
        positions: impl ExactSizeIterator<Item = usize>,
        device: &B::Device,
    ) -> Option<Tensor<B, 2>> {
        match &self.config {
            PositionConfig::Axial { .. } | PositionConfig::Learned { .. } => {
                let positions: Vec<i32> = positions.map(|position| position as i32).collect();
                Some(self.look_up(Tensor::from_ints(positions.as_slice(), device)))
            }
            PositionConfig::Sinusoidal => Some(waves::sinusoids(positions, self.d_model, device)),
            PositionConfig::Rotary { .. } | PositionConfig::None => None,
        }
    }

    /// Maximum sequence length, if there is a limit.
    pub fn max_length(&self) -> Option<usize> {
        self.config.max_length()
    }

    /// Concatenates the rows of the tables; the last axis varies fastest.
    fn look_up(&self, positions: Tensor<B, 1, Int>) -> Tensor<B, 2> {
        let mut stride: usize = self.tables.iter().map(|table| table.dims()[0]).product();
        let parts = self.tables.iter().map(|table| {
            let length = table.dims()[0];
            stride /= length;
            let coordinates = positions
                .clone()
                .div_scalar(stride as i64)
                .remainder_scalar(length as i64);
            table.val().select(0, coordinates)
        });
        Tensor::cat(parts.collect(), 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Tolerance;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    #[test]
    fn axial_positions_count_the_last_axis_fastest() {
        let device = Default::default();
        let config = PositionConfig::Axial {
            shape: vec![2, 3, 5],
            dims: vec![1, 2, 1],
            std: 1.0,
        };
        let position = config.init::<Flex>(4, &device);
        let embeddings = position.forward(29, &device).unwrap();
        for at in [0, 1, 7, 15, 28] {
            let row = |axis: usize, coordinate: usize| {
                let table = position.tables[axis].val();
                table.slice_dim(0, coordinate..coordinate + 1)
            };
            let expected =
                Tensor::cat(vec![row(0, at / 15), row(1, at / 5 % 3), row(2, at % 5)], 1);
            let found = embeddings.clone().slice_dim(0, at..at + 1);
            found.into_data().assert_eq(&expected.into_data(), true);
        }
    }

    #[test]
    #[should_panic(expected = "a sequence of 31 is longer than the 30 positions of the model")]
    fn too_long_a_sequence_is_refused() {
        let config = PositionConfig::Learned {
            max_length: 30,
            std: 1.0,
            sinusoidal: false,
        };
        let device = Default::default();
        config.init::<Flex>(4, &device).forward(31, &device);
    }

    #[test]
    fn a_table_can_start_from_waves_and_is_trained() {
        let device = Default::default();
        let config = PositionConfig::Learned {
            max_length: 50,
            std: 0.5,
            sinusoidal: true,
        };
        let position = config.init::<Autodiff<Flex>>(16, &device);
        let [table] = &position.tables[..] else {
            panic!("one table");
        };
        assert!(table.is_require_grad());
        let waves = PositionConfig::Sinusoidal.init::<Flex>(16, &device);
        let waves = waves.forward(50, &device).unwrap();
        let expected = waves * (0.5 * 2f64.sqrt());
        let table = position.forward(50, &device).unwrap().inner();
        let tolerance = Tolerance::<f32>::absolute(1e-6);
        table
            .clone()
            .into_data()
            .assert_approx_eq(&expected.into_data(), tolerance);
        let mean_square: f32 = table.powi_scalar(2).mean().into_scalar();
        assert!((mean_square.sqrt() - 0.5).abs() < 0.05, "{mean_square}");
        assert!(config.validate(15).is_err());
    }
}
