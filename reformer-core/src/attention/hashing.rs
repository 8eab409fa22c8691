//! Angular locality-sensitive hashing (Andoni et al., 2015; paper, section 2).
//!
//! A vector is projected onto random directions; its bucket is the index of the largest entry of
//! `[xR; -xR]`. Vectors at a small angle are likely to share a bucket, whatever their length.

use burn::config::Config;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use rand_distr::{Distribution, StandardNormal};

use crate::error::ConfigError;
use crate::kernels::ReformerBackend;
use crate::random::Key;

/// Number of buckets that vectors are hashed into.
#[derive(Config, Debug, PartialEq, Eq)]
pub enum Buckets {
    /// From the length: twice the number of chunks, rounded down to a power of two, so that a chunk
    /// holds about two buckets (paper, section 3). Above 128 as two factors.
    Auto,
    /// As [`Auto`](Self::Auto), with another limit for a single factor.
    AutoFactored(
        /// Largest number of buckets that is hashed as a single factor.
        usize,
    ),
    /// A fixed, even number.
    Count(
        /// The number of buckets.
        usize,
    ),
    /// The product of these even numbers. A vector is hashed once per factor, with `sum / 2`
    /// projections instead of `product / 2`.
    Factors(
        /// The factors.
        Vec<usize>,
    ),
}

impl Buckets {
    const AUTO_FACTORED_ABOVE: usize = 128;

    /// The factors for a length; their product is the number of buckets.
    ///
    /// ```
    /// use reformer_core::attention::Buckets;
    ///
    /// assert_eq!(Buckets::Auto.factors(1000, 64), [16]); // 15 chunks, 30 buckets at most
    /// assert_eq!(Buckets::Auto.factors(65_536, 64), [32, 64]);
    /// ```
    pub fn factors(&self, seq_length: usize, chunk_length: usize) -> Vec<usize> {
        let automatic = |factored_above: usize| {
            let exponent = (2 * (seq_length / chunk_length)).max(2).ilog2();
            if 1 << exponent <= factored_above || exponent < 2 {
                vec![1 << exponent]
            } else {
                vec![1 << (exponent / 2), 1 << (exponent - exponent / 2)]
            }
        };
        match self {
            Self::Auto => automatic(Self::AUTO_FACTORED_ABOVE),
            Self::AutoFactored(above) => automatic(*above),
            Self::Count(n_buckets) => vec![*n_buckets],
            Self::Factors(factors) => factors.clone(),
        }
    }

    /// Checks that every factor is even.
    ///
    /// # Errors
    /// A factor that is zero or odd, or an empty list of them.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let factors: &[usize] = match self {
            Self::Auto | Self::AutoFactored(_) => return Ok(()),
            Self::Count(n_buckets) => core::slice::from_ref(n_buckets),
            Self::Factors(factors) => factors,
        };
        let even = |factor: &usize| *factor > 0 && factor.is_multiple_of(2);
        if factors.is_empty() || !factors.iter().all(even) {
            return Err(ConfigError::new(
                "n_buckets",
                format!("{factors:?}"),
                "a vector and its opposite fall into buckets that form pairs",
                "use even numbers",
            ));
        }
        Ok(())
    }
}

/// Draws hash rotations from a key.
///
/// # Shapes
/// - output: `[n_heads, d_head, n_rounds, sum(factors) / 2]`, standard normal
pub fn rotations<B: Backend>(
    key: Key,
    n_heads: usize,
    d_head: usize,
    n_rounds: usize,
    factors: &[usize],
    device: &B::Device,
) -> Tensor<B, 4> {
    let shape = [n_heads, d_head, n_rounds, factors.iter().sum::<usize>() / 2];
    let mut stream = key.stream();
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| StandardNormal.sample(&mut stream))
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Buckets of vectors in each round. Several factors are combined like digits, lowest first.
/// Vectors are hashed in the type of the rotations.
///
/// # Shapes
/// - vectors: `[batch_size, n_heads, seq_length, d_head]`
/// - rotations: `[n_heads, d_head, n_rounds, sum(factors) / 2]`
/// - output: `[batch_size, n_heads, n_rounds, seq_length]`, values in `0..product(factors)`
///
/// # Panics
/// If the shapes do not fit.
pub fn hash<B: ReformerBackend>(
    vectors: Tensor<B, 4>,
    rotations: Tensor<B, 4>,
    factors: &[usize],
) -> Tensor<B, 4, Int> {
    let [_, n_heads, _, d_head] = vectors.dims();
    let [heads, d, _, n_projections] = rotations.dims();
    let wanted = factors.iter().sum::<usize>() / 2;
    assert_eq!(
        [heads, d, n_projections],
        [n_heads, d_head, wanted],
        "rotations of shape {:?} do not fit {n_heads} heads of {d_head} and {factors:?} buckets",
        rotations.dims()
    );
    B::hash(vectors, rotations, factors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    const HEADS: usize = 2;
    const D_HEAD: usize = 8;

    fn vectors() -> Tensor<Flex, 4> {
        let values = rotations::<Flex>(
            Key::new(7),
            3,
            HEADS,
            33,
            &[2 * D_HEAD],
            &Default::default(),
        );
        assert_eq!(values.dims(), [3, HEADS, 33, D_HEAD]);
        values
    }

    fn buckets(vectors: Tensor<Flex, 4>, factors: &[usize]) -> Vec<i32> {
        let rotations = rotations(Key::new(1), HEADS, D_HEAD, 3, factors, &vectors.device());
        hash(vectors, rotations, factors)
            .into_data()
            .iter()
            .collect()
    }

    #[test]
    fn bucket_does_not_depend_on_the_length_of_a_vector() {
        assert_eq!(
            buckets(vectors(), &[4, 8]),
            buckets(vectors() * 8.0, &[4, 8])
        );
    }

    #[test]
    fn bucket_of_the_opposite_vector_is_the_opposite_bucket() {
        let opposite = |bucket: i32| (bucket + 6) % 12;
        let there: Vec<i32> = buckets(vectors(), &[12])
            .into_iter()
            .map(opposite)
            .collect();
        assert_eq!(there, buckets(-vectors(), &[12]));
    }

    #[test]
    fn factors_are_digits_of_the_bucket() {
        let both = buckets(vectors(), &[4, 8]);
        let rotations =
            rotations::<Flex>(Key::new(1), HEADS, D_HEAD, 3, &[4, 8], &Default::default());
        let digit = |range: core::ops::Range<usize>, factor| -> Vec<i32> {
            let rotations = rotations.clone().slice_dim(3, range);
            hash(vectors(), rotations, &[factor])
                .into_data()
                .iter()
                .collect()
        };
        let low = digit(0..2, 4);
        let high = digit(2..6, 8);
        for ((both, low), high) in both.iter().zip(low).zip(high) {
            assert_eq!(*both, low + 4 * high);
        }
    }

    #[test]
    fn odd_and_absent_buckets_are_refused_by_name() {
        for buckets in [
            Buckets::Count(7),
            Buckets::Count(0),
            Buckets::Factors(vec![4, 3]),
            Buckets::Factors(vec![]),
        ] {
            let error = buckets.validate().unwrap_err();
            assert!(error.to_string().starts_with("`n_buckets` is ["), "{error}");
        }
    }

    #[test]
    fn automatic_buckets_are_two_a_chunk() {
        assert_eq!(Buckets::Auto.factors(1, 64), [2]);
        assert_eq!(Buckets::Auto.factors(4096, 64), [128]);
        assert_eq!(Buckets::Auto.factors(8192, 64), [16, 16]);
        assert_eq!(Buckets::AutoFactored(1).factors(64, 64), [2]);
    }
}
