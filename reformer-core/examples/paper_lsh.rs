//! LSH attention as in figure 2 of the paper, in plain tensor operations, with a check that
//! [`LshAttention`](reformer_core::attention::LshAttention) computes the same.
//!
//!     cargo run --release -p reformer-core --example paper_lsh
//!
//! One head, a batch of one. Each step has its name from the paper; the library computes the same
//! in a few kernels, without tensors of indices.

use burn::tensor::activation::softmax;
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Distribution, Int, Tensor, Tolerance};
use burn_flex::Flex;
use reformer_core::Pass;
use reformer_core::attention::{
    Buckets, ExactUpTo, HeadsConfig, LshAttentionConfig, LshConfig, Window,
};

const LENGTH: usize = 128;
const D_MODEL: usize = 16;
const N_ROUNDS: usize = 4;
const N_BUCKETS: usize = 8;
const CHUNK: usize = 16;

fn main() {
    let device = Default::default();
    Flex::seed(&device, 42);
    let normal = Distribution::Normal(0.0, 1.0);
    let x = Tensor::<Flex, 2>::random([LENGTH, D_MODEL], normal, &device);
    let rotations = Tensor::<Flex, 3>::random([N_ROUNDS, D_MODEL, N_BUCKETS / 2], normal, &device);

    let lsh = LshConfig::new()
        .with_n_rounds(N_ROUNDS)
        .with_n_buckets(Buckets::Count(N_BUCKETS))
        .with_chunk_length(CHUNK)
        .with_window(Window::Chunk {
            before: 1,
            after: 0,
            within_bucket: true,
        })
        .with_exact_up_to(ExactUpTo::Never)
        .with_local_round(false);
    let layer = LshAttentionConfig::new(HeadsConfig::new(D_MODEL, 1), lsh).init(&device);
    let of_layer = rotations.clone().swap_dims(0, 1).unsqueeze_dim(0);
    let layer = layer
        .with_rotations(of_layer)
        .expect("rotations of its shape");

    // Shared QK: keys are queries, scaled to length 1.
    let queries = x.clone().matmul(layer.heads.query.weight.val());
    let keys = queries.clone() / queries.clone().square().sum_dim(1).sqrt();
    let values = x.clone().matmul(layer.heads.value.weight.val());

    // LSH bucketing: h(x) = argmax([xR; -xR]), with other rotations R in each round.
    let rotated = queries.clone().unsqueeze_dim::<3>(0).matmul(rotations); // [rounds, length, buckets / 2]
    let buckets = Tensor::cat(vec![rotated.clone(), -rotated], 2)
        .argmax(2)
        .squeeze_dim::<2>(2);

    // Sort by bucket, then by position, and cut into chunks.
    let positions = Tensor::<Flex, 1, Int>::arange(0..LENGTH as i64, &device);
    let sorted = (buckets.clone() * LENGTH as i64 + positions.unsqueeze()).argsort(1); // place -> position
    let places = sorted.clone().argsort(1); // position -> place
    let chunks = places.clone() / CHUNK as i64; // position -> chunk

    let (mut outputs, mut sizes) = (vec![], vec![]);
    for round in 0..N_ROUNDS {
        // A chunk of queries attends to itself and the previous chunk.
        let own = row(&sorted, round).reshape([LENGTH / CHUNK, CHUNK]);
        let (others, last) = (
            own.clone().slice_dim(0, ..-1),
            own.clone().slice_dim(0, -1..),
        );
        let before = Tensor::cat(vec![last, others], 0); // the first one sees nothing in the last one
        let seen = Tensor::cat(vec![before, own.clone()], 1);
        let logits = chunked(&queries, &own).matmul(chunked(&keys, &seen).swap_dims(1, 2));

        // Same bucket only, and causal.
        let (i, j) = (
            own.unsqueeze_dim::<3>(2),
            seen.clone().unsqueeze_dim::<3>(1),
        );
        let (i, j) = (i.expand(logits.dims()), j.expand(logits.dims()));
        let is_seen_in = |round: usize| -> Tensor<Flex, 3, Bool> {
            let of = |of: &Tensor<Flex, 2, Int>, at: &Tensor<Flex, 3, Int>| {
                row(of, round)
                    .select(0, at.clone().flatten::<1>(0, 2))
                    .reshape(at.dims())
            };
            let is_same_bucket = of(&buckets, &i).equal(of(&buckets, &j));
            let distance = of(&chunks, &i) - of(&chunks, &j);
            let is_near = distance
                .clone()
                .greater_equal_elem(0)
                .bool_and(distance.lower_equal_elem(1));
            is_same_bucket
                .bool_and(is_near)
                .bool_and(j.clone().lower_equal(i.clone()))
        };
        // Keys seen in N rounds count once: minus log N (appendix A). A token sees itself only if it sees no other.
        let counts = (0..N_ROUNDS).map(|round| is_seen_in(round).float());
        let counts = counts.reduce(|sum, next| sum + next).expect("a round");
        let logits = (logits - counts.clamp_min(1.0).log())
            .mask_fill(is_seen_in(round).bool_not(), f32::NEG_INFINITY)
            .mask_fill(i.equal(j), -1e5);

        let most = logits.clone().max_dim(2);
        let size = (logits.clone() - most.clone()).exp().sum_dim(2).log() + most; // log of the softmax's sum
        let output = (logits - size.clone())
            .exp()
            .matmul(chunked(&values, &seen));

        // Undo the sorting.
        let back = row(&places, round);
        outputs.push(output.reshape([LENGTH, D_MODEL]).select(0, back.clone()));
        sizes.push(size.reshape([LENGTH, 1]).select(0, back));
    }

    // All rounds together are one softmax: each is weighted by its sum.
    let weights = softmax(Tensor::cat(sizes, 1), 1);
    let joined = outputs.into_iter().zip(weights.chunk(N_ROUNDS, 1));
    let joined = joined
        .map(|(output, weight)| output * weight)
        .reduce(|sum, next| sum + next);
    let ours = joined
        .expect("a round")
        .matmul(layer.heads.output.weight.val());

    let theirs = layer
        .forward(x.unsqueeze(), &Pass::eval())
        .output
        .squeeze_dim::<2>(0);
    ours.into_data()
        .assert_approx_eq::<f32>(&theirs.into_data(), Tolerance::absolute(1e-5));
    println!("figure 2 and LshAttention agree on {LENGTH} positions in {N_ROUNDS} rounds");
}

/// The values of a round for each position or place.
fn row(of: &Tensor<Flex, 2, Int>, round: usize) -> Tensor<Flex, 1, Int> {
    of.clone().slice_dim(0, round..round + 1).squeeze_dim(0)
}

/// Vectors of the positions in each chunk.
fn chunked(vectors: &Tensor<Flex, 2>, positions: &Tensor<Flex, 2, Int>) -> Tensor<Flex, 3> {
    let [n_chunks, length] = positions.dims();
    let picked = vectors
        .clone()
        .select(0, positions.clone().flatten::<1>(0, 1));
    picked.reshape([n_chunks, length, D_MODEL])
}

#[test]
fn figure_2_is_what_the_layer_computes() {
    main();
}
