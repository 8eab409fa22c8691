//! Size limits, checked before any memory is allocated.
//!
//! They are far above those of any trained model, and keep products of sizes within an integer.

use burn::module::Initializer;

use super::config::ReformerConfig;
use crate::attention::{Buckets, LocalConfig, LshConfig, Window};
use crate::error::ConfigError;
use crate::position::PositionConfig;

/// Largest number of tokens, classes, or features inside a layer.
pub(super) const MAX_WIDTH: usize = 1 << 24;
const MAX_D_MODEL: usize = 1 << 20;
const MAX_LAYERS: usize = 10_000;
const MAX_HEADS: usize = 1 << 16;
/// Positions are counted in 32 bits.
const MAX_LENGTH: usize = i32::MAX as usize;
const MAX_ROUNDS: usize = 1024;
const MAX_BUCKETS: usize = 1 << 17;
/// Number of chunks that a position sees before or after its own.
const MAX_NEIGHBOURS: usize = 1024;
const MAX_AXES: usize = 16;
/// Initial weights are `f32`, and so are sums of them.
const MAGNITUDES: core::ops::RangeInclusive<f64> = 1e-9..=1e9;
/// Numbers in the hash rotations of a layer: 1 GiB.
const MAX_ROTATIONS: u128 = 1 << 28;
/// 256 GiB in `f32`.
const MAX_PARAMETERS: u128 = 1 << 36;

/// Checks the sizes and numbers of a stack, so that later checks can multiply them safely.
pub(super) fn check(config: &ReformerConfig) -> Result<(), ConfigError> {
    let width = config.d_head.unwrap_or(1);
    for (field, value, limit) in [
        ("vocab_size", config.vocab_size, MAX_WIDTH),
        ("d_model", config.d_model, MAX_D_MODEL),
        ("n_layers", config.n_layers, MAX_LAYERS),
        ("layers", config.layers.len(), MAX_LAYERS),
        ("n_heads", config.n_heads, MAX_HEADS),
        ("d_head", width, MAX_D_MODEL),
        ("d_ff", config.d_ff.unwrap_or(1), MAX_WIDTH),
    ] {
        ConfigError::at_most(field, value, limit)?;
    }
    ConfigError::at_most("n_heads * d_head", config.n_heads * width, MAX_WIDTH)?;
    ConfigError::positive("norm_epsilon", config.norm_epsilon)?;
    check_deviation("embedding_std", config.embedding_std)?;
    if let Some(scale) = config.logit_scale {
        check_magnitude("logit_scale", scale)?;
    }
    if let Some(length) = config.query_length {
        ConfigError::positive("query_length", length)?;
        check_magnitude("query_length", length)?;
    }
    check_initializer(&config.initializer)?;
    check_lsh(&config.lsh)?;
    check_local(&config.local)?;
    check_position(&config.position)?;
    check_products(config)
}

fn check_lsh(lsh: &LshConfig) -> Result<(), ConfigError> {
    ConfigError::at_most("lsh.n_rounds", lsh.n_rounds, MAX_ROUNDS)?;
    ConfigError::at_most("lsh.chunk_length", lsh.chunk_length, MAX_LENGTH)?;
    match lsh.window {
        Window::Bucket { len } => ConfigError::at_most("lsh.window.len", len, MAX_LENGTH)?,
        Window::Chunk { before, after, .. } => {
            ConfigError::at_most("lsh.window.before", before, MAX_NEIGHBOURS)?;
            ConfigError::at_most("lsh.window.after", after, MAX_NEIGHBOURS)?;
        }
    }
    let n_buckets = match &lsh.n_buckets {
        Buckets::Auto | Buckets::AutoFactored(_) => return Ok(()),
        Buckets::Count(n_buckets) => *n_buckets,
        Buckets::Factors(factors) => factors
            .iter()
            .fold(1, |product: usize, factor| product.saturating_mul(*factor)),
    };
    ConfigError::at_most("lsh.n_buckets", n_buckets, MAX_BUCKETS)
}

fn check_local(local: &LocalConfig) -> Result<(), ConfigError> {
    ConfigError::at_most("local.chunk_length", local.chunk_length, MAX_LENGTH)?;
    ConfigError::at_most("local.before", local.before, MAX_NEIGHBOURS)?;
    ConfigError::at_most("local.after", local.after, MAX_NEIGHBOURS)
}

fn check_position(position: &PositionConfig) -> Result<(), ConfigError> {
    match position {
        PositionConfig::Axial { shape, dims, std } => {
            ConfigError::at_most("position.shape", shape.len(), MAX_AXES)?;
            ConfigError::at_most("position.dims", dims.len(), MAX_AXES)?;
            let n_positions = shape
                .iter()
                .fold(1, |n: usize, axis| n.saturating_mul(*axis));
            ConfigError::at_most("position.shape", n_positions, MAX_LENGTH)?;
            for of_axis in dims {
                ConfigError::at_most("position.dims", *of_axis, MAX_D_MODEL)?;
            }
            check_deviation("position.std", *std)
        }
        PositionConfig::Learned {
            max_length, std, ..
        } => {
            ConfigError::at_most("position.max_length", *max_length, MAX_LENGTH)?;
            check_deviation("position.std", *std)
        }
        PositionConfig::Rotary { base } => ConfigError::positive("position.base", *base),
        PositionConfig::Sinusoidal | PositionConfig::None => Ok(()),
    }
}

/// Burn panics when it samples from a distribution that is not valid in `f32`.
fn check_initializer(initializer: &Initializer) -> Result<(), ConfigError> {
    match initializer {
        Initializer::Normal { mean, std } => {
            check_magnitude("initializer.mean", *mean)?;
            check_deviation("initializer.std", *std)
        }
        Initializer::Uniform { min, max } => {
            check_magnitude("initializer.min", *min)?;
            check_magnitude("initializer.max", *max)?;
            match (*min as f32) < *max as f32 {
                true => Ok(()),
                false => Err(ConfigError::new(
                    "initializer.min",
                    min,
                    format!("it must be below initializer.max ({max})"),
                    "lower it",
                )),
            }
        }
        Initializer::Constant { value } => check_magnitude("initializer.value", *value),
        Initializer::KaimingUniform { gain, .. }
        | Initializer::KaimingNormal { gain, .. }
        | Initializer::XavierUniform { gain }
        | Initializer::XavierNormal { gain }
        | Initializer::Orthogonal { gain } => {
            ConfigError::positive("initializer.gain", *gain)?;
            check_magnitude("initializer.gain", *gain)
        }
        Initializer::Ones | Initializer::Zeros => Ok(()),
    }
}

fn check_deviation(field: &str, value: f64) -> Result<(), ConfigError> {
    ConfigError::deviation(field, value)?;
    check_magnitude(field, value)
}

/// Checks that a value is 0 or of a magnitude that can be computed with.
fn check_magnitude(field: &str, value: f64) -> Result<(), ConfigError> {
    ConfigError::finite(field, value)?;
    if value != 0.0 && !MAGNITUDES.contains(&value.abs()) {
        let (smallest, largest) = (MAGNITUDES.start(), MAGNITUDES.end());
        let law = format!("its magnitude must lie in {smallest:e} to {largest:e}");
        return Err(ConfigError::new(
            field,
            value,
            law,
            "use a value nearer to 1",
        ));
    }
    Ok(())
}

/// Checks sizes that are valid individually but too large in combination.
fn check_products(config: &ReformerConfig) -> Result<(), ConfigError> {
    let wide = |size: usize| size as u128;
    let d_model = wide(config.d_model);
    let width = match config.d_head {
        Some(d_head) => wide(config.n_heads * d_head),
        None => d_model,
    };
    let projections = match &config.lsh.n_buckets {
        Buckets::Auto | Buckets::AutoFactored(_) => 0,
        Buckets::Count(n_buckets) => wide(*n_buckets),
        Buckets::Factors(factors) => factors.iter().map(|factor| wide(*factor)).sum(),
    };
    let rotations = width * wide(config.lsh.n_rounds) * projections / 2;
    if rotations > MAX_ROTATIONS {
        return Err(ConfigError::new(
            "lsh.n_buckets",
            format!("{:?}", config.lsh.n_buckets),
            format!(
                "hashing with it takes {rotations} numbers in a layer, of at most {MAX_ROTATIONS}"
            ),
            "lower it or lsh.n_rounds, or use factors",
        ));
    }
    let d_ff = config.d_ff.map_or(4 * d_model, wide);
    let of_layer = 4 * d_model * width + 3 * d_model * d_ff;
    let positions: u128 = match &config.position {
        PositionConfig::Axial { shape, dims, .. } => {
            let tables = shape.iter().zip(dims);
            tables
                .map(|(length, width)| wide(*length) * wide(*width))
                .sum()
        }
        PositionConfig::Learned { max_length, .. } => wide(*max_length) * d_model,
        _ => 0,
    };
    let parameters =
        3 * wide(config.vocab_size) * d_model + wide(config.n_layers) * of_layer + positions;
    if parameters > MAX_PARAMETERS {
        return Err(ConfigError::new(
            "n_layers",
            config.n_layers,
            format!(
                "with a d_model of {} the model has about {parameters} parameters, of at most \
                 {MAX_PARAMETERS}",
                config.d_model
            ),
            "lower one of them, d_ff or vocab_size",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ReformerConfig {
        ReformerConfig::new(256, 64, 2)
    }

    #[test]
    fn sizes_that_cannot_be_are_named() {
        let lsh = |lsh: LshConfig| config().with_lsh(lsh);
        let local = |local: LocalConfig| config().with_local(local);
        let with = |position| config().with_position(position);
        let huge = usize::MAX;
        let chunk = |before, after| Window::Chunk {
            before,
            after,
            within_bucket: false,
        };
        for (config, field) in [
            (ReformerConfig::new(huge, 64, 2), "vocab_size"),
            (ReformerConfig::new(256, huge, 2), "d_model"),
            (ReformerConfig::new(256, 64, huge), "n_layers"),
            (config().with_n_heads(huge), "n_heads"),
            (config().with_d_head(Some(huge)), "d_head"),
            (config().with_d_ff(Some(huge)), "d_ff"),
            (
                config().with_n_heads(1 << 16).with_d_head(Some(1 << 20)),
                "n_heads * d_head",
            ),
            (lsh(LshConfig::new().with_n_rounds(huge)), "lsh.n_rounds"),
            (
                lsh(LshConfig::new().with_chunk_length(huge)),
                "lsh.chunk_length",
            ),
            (
                lsh(LshConfig::new().with_n_buckets(Buckets::Count(1_000_000_000_000))),
                "lsh.n_buckets",
            ),
            (
                lsh(LshConfig::new().with_n_buckets(Buckets::Factors(vec![1 << 16; 8]))),
                "lsh.n_buckets",
            ),
            (
                lsh(LshConfig::new()
                    .with_n_buckets(Buckets::Count(1 << 17))
                    .with_n_rounds(1000)),
                "lsh.n_buckets",
            ),
            (
                lsh(LshConfig::new().with_window(Window::Bucket { len: huge })),
                "lsh.window.len",
            ),
            (
                lsh(LshConfig::new().with_window(chunk(huge, 0))),
                "lsh.window.before",
            ),
            (
                lsh(LshConfig::new().with_window(chunk(0, huge))),
                "lsh.window.after",
            ),
            (
                local(LocalConfig::new().with_chunk_length(huge)),
                "local.chunk_length",
            ),
            (local(LocalConfig::new().with_before(huge)), "local.before"),
            (
                with(PositionConfig::Learned {
                    max_length: huge,
                    std: 1.0,
                    sinusoidal: false,
                }),
                "position.max_length",
            ),
            (
                with(PositionConfig::Axial {
                    shape: vec![huge, 2],
                    dims: vec![32, 32],
                    std: 1.0,
                }),
                "position.shape",
            ),
            (
                with(PositionConfig::Axial {
                    shape: vec![2, 2],
                    dims: vec![huge, 65],
                    std: 1.0,
                }),
                "position.dims",
            ),
            (ReformerConfig::new(256, 1 << 20, 10_000), "n_layers"),
        ] {
            assert_eq!(config.validate().unwrap_err().field, field);
        }
    }

    #[test]
    fn numbers_that_cannot_be_are_named() {
        let normal = Initializer::Normal {
            mean: 0.0,
            std: -1.0,
        };
        for (config, field) in [
            (config().with_norm_epsilon(-1.0), "norm_epsilon"),
            (config().with_norm_epsilon(f64::NAN), "norm_epsilon"),
            (config().with_embedding_std(f64::NAN), "embedding_std"),
            (config().with_embedding_std(1e308), "embedding_std"),
            (
                config().with_initializer(Initializer::XavierUniform { gain: 1e-320 }),
                "initializer.gain",
            ),
            (config().with_logit_scale(Some(f64::NAN)), "logit_scale"),
            (config().with_query_length(Some(0.0)), "query_length"),
            (config().with_initializer(normal), "initializer.std"),
            (
                config().with_position(PositionConfig::Rotary { base: f64::NAN }),
                "position.base",
            ),
        ] {
            assert_eq!(config.validate().unwrap_err().field, field);
        }
    }
}
