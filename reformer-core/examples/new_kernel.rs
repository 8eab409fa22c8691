//! How to write and test a kernel for a new backend: a function of tensors that replaces a default
//! body, compared with the reference.
//!
//! In the crate of the backend it becomes the method `hash` of
//! `impl ReformerBackend for MyBackend`; methods that are not implemented use tensor operations.
//!
//!     cargo run --release -p reformer-core --example new_kernel

use std::time::Instant;

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use burn_flex::Flex;
use reformer_core::Key;
use reformer_core::attention::rotations;
use reformer_core::kernels::{ReformerBackend, reference};

/// Buckets of vectors by plain loops on the host. A GPU kernel would use a thread for each position
/// and round; sums are in the order of features, so that equal vectors share a bucket.
fn my_hash<B: Backend>(
    vectors: Tensor<B, 4>,
    rotations: Tensor<B, 4>,
    factors: &[usize],
) -> Tensor<B, 4, Int> {
    let [batch_size, n_heads, seq_length, d] = vectors.dims();
    let [_, _, n_rounds, width] = rotations.dims();
    let device = vectors.device();
    let x: Vec<f32> = vectors.into_data().iter().collect();
    let r: Vec<f32> = rotations.into_data().iter().collect();
    let mut buckets = Vec::with_capacity(batch_size * n_heads * n_rounds * seq_length);
    for head in 0..batch_size * n_heads {
        for round in 0..n_rounds {
            for position in 0..seq_length {
                let x = &x[(head * seq_length + position) * d..][..d];
                let project = |column: usize| -> f32 {
                    let first = head % n_heads * d * n_rounds * width + round * width + column;
                    let column = r[first..].iter().step_by(n_rounds * width);
                    x.iter().zip(column).map(|(x, r)| x * r).sum()
                };
                let (mut bucket, mut weight, mut start) = (0, 1, 0);
                for &factor in factors {
                    let half: Vec<f32> = (start..start + factor / 2).map(project).collect();
                    let both = half.iter().copied().chain(half.iter().map(|x| -x));
                    let best = (0..).zip(both).reduce(|a, b| if b.1 > a.1 { b } else { a });
                    bucket += weight * best.map_or(0, |(index, _)| index);
                    (weight, start) = (weight * factor as i32, start + factor / 2);
                }
                buckets.push(bucket);
            }
        }
    }
    let shape = [batch_size, n_heads, n_rounds, seq_length];
    Tensor::from_data(TensorData::new(buckets, shape), &device)
}

fn main() {
    let device = Default::default();
    let factors = [8, 16];
    let vectors = rotations::<Flex>(Key::new(1), 2, 2, 2000, &[64], &device).swap_dims(1, 3);
    let vectors = vectors.reshape([2, 4, 2000, 16]);
    let rotations = rotations::<Flex>(Key::new(2), 4, 16, 3, &factors, &device);
    let time = |name: &str, hash: fn(Tensor<Flex, 4>, Tensor<Flex, 4>, &[usize]) -> _| {
        let begin = Instant::now();
        let buckets: Tensor<Flex, 4, Int> = hash(vectors.clone(), rotations.clone(), &factors);
        println!("{name}: {:.1} ms", 1e3 * begin.elapsed().as_secs_f64());
        buckets.into_data().iter::<i64>().collect::<Vec<_>>()
    };
    let expected = time("reference", reference::hash);
    // Two projections can be so close that the order of additions decides which one is larger.
    for found in [time("loops", my_hash), time("Flex's kernel", Flex::hash)] {
        let other = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
        println!(
            "  other buckets than the reference: {other} of {}",
            expected.len()
        );
        assert!(other * 10_000 < expected.len());
    }
}
