//! Hashing, sorting and random numbers against what the judge computes.

use super::Subject;
use crate::common::{integers, normal};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use reformer_core::Key;
use reformer_core::kernels::{ReformerBackend, SlotLayout, Slots, reference};

fn list<B: Backend, const D: usize>(tensor: Tensor<B, D, Int>) -> Vec<i32> {
    tensor.into_data().iter::<i32>().collect()
}

/// Orders of all rounds; the reference has no more slots than it needs, and what the kernel has
/// beyond them must be empty.
pub(crate) fn assert_same_order<S: Subject>(
    buckets: Tensor<S::Backend, 4, Int>,
    n_buckets: usize,
    layout: SlotLayout,
) {
    let found = S::Backend::bucket_sort(buckets.clone(), n_buckets, layout);
    assert_order_of::<S>(found, S::judged(buckets.clone()), n_buckets, layout);
    let rounds = reference::with_local_round(S::judged(buckets.clone()), n_buckets);
    let found = S::Backend::sort_rounds(buckets, n_buckets, layout, true);
    assert_order_of::<S>(found, rounds, n_buckets, layout);
}

fn assert_order_of<S: Subject>(
    found: Slots<S::Backend>,
    buckets: Tensor<S::Judge, 4, Int>,
    n_buckets: usize,
    layout: SlotLayout,
) {
    let expected = reference::bucket_sort(buckets.clone(), n_buckets, layout);
    let name = format!("{:?}, {n_buckets} buckets, {layout:?}", buckets.dims());
    assert_eq!(
        list(S::judged(found.slot_of)),
        list(expected.slot_of),
        "{name}"
    );
    assert_eq!(list(S::judged(found.buckets)), list(buckets), "{name}");
    let (n_found, n_expected) = (found.order.dims()[3], expected.order.dims()[3]);
    assert!(n_found >= n_expected, "{name}");
    let found = list(S::judged(found.order));
    let expected = list(expected.order);
    let rounds = found.chunks(n_found).zip(expected.chunks(n_expected));
    for (found, expected) in rounds {
        assert_eq!(found[..n_expected], *expected, "{name}");
        assert!(found[n_expected..].iter().all(|slot| *slot == -1), "{name}");
    }
}

pub(crate) fn sorting_is_the_reference<S: Subject>() {
    let layouts = [
        SlotLayout::Dense(1),
        SlotLayout::Dense(64),
        SlotLayout::BucketAligned(1),
        SlotLayout::BucketAligned(32),
    ];
    // Lengths around the stretch of a cube, numbers of buckets around the length.
    let shapes = [
        ([1, 1, 1, 1], 2),
        ([2, 2, 3, 37], 6),
        ([1, 2, 2, 256], 257),
        ([1, 1, 1, 257], 3),
        ([1, 3, 2, 3000], 129),
        ([1, 1, 2, 5000], 2049),
        ([1, 1, 1, 700], 6000),
    ];
    for (shape, n_buckets) in shapes {
        for layout in layouts {
            let buckets = integers(n_buckets as u64, shape, n_buckets as u32);
            assert_same_order::<S>(buckets, n_buckets, layout);
        }
    }
    // All in one, and as they lie in a model: heads between positions.
    let one = Tensor::<S::Backend, 4, Int>::zeros([1, 1, 2, 1000], &Default::default());
    assert_same_order::<S>(one + 5, 9, SlotLayout::BucketAligned(32));
    let strided: Tensor<S::Backend, 4, Int> = integers(3, [1, 300, 2, 2], 8);
    assert_same_order::<S>(strided.permute([0, 2, 3, 1]), 8, SlotLayout::Dense(16));
}

/// With whole numbers every order of additions gives the same, ties included.
pub(crate) fn hashing_whole_numbers_is_the_reference<S: Subject>() {
    let cases: [(_, &[usize]); 4] = [(4, &[8]), (64, &[16, 32]), (20, &[2, 4, 6]), (128, &[200])];
    for (d_head, factors) in cases {
        let n_projections = factors.iter().sum::<usize>() / 2;
        // Few values, so that ties are common.
        let vectors = integers::<S::Backend, 4>(1, [2, 3, 131, d_head], 3).float() - 1.0;
        let rotations =
            integers::<S::Backend, 4>(2, [3, d_head, 2, n_projections], 5).float() - 2.0;
        let found = S::Backend::hash(vectors.clone(), rotations.clone(), factors);
        let expected = reference::hash(S::judged(vectors), S::judged(rotations), factors);
        assert_eq!(
            list(S::judged(found)),
            list(expected),
            "{d_head}, {factors:?}"
        );
    }
}

/// A bucket may differ only where two projections are equal but for rounding.
pub(crate) fn hashing_follows_the_largest_projection<S: Subject>() {
    let (d_head, half, n_rounds) = (64, 32, 3);
    let vectors: Tensor<S::Backend, 4> = normal(1, [1, 500, 2, d_head]);
    let vectors = vectors.swap_dims(1, 2);
    let rotations: Tensor<S::Backend, 4> = normal(2, [2, d_head, n_rounds, half]);
    let found = list(S::judged(S::Backend::hash(
        vectors.clone(),
        rotations.clone(),
        &[2 * half],
    )));
    let numbers = |data: TensorData| data.iter::<f64>().collect::<Vec<_>>();
    let vectors = numbers(vectors.into_data());
    let rotations = numbers(rotations.into_data());
    for (number, &bucket) in found.iter().enumerate() {
        let (head, round, position) = (number / 1500, number / 500 % n_rounds, number % 500);
        let vector = &vectors[(head * 500 + position) * d_head..][..d_head];
        let projection = |bucket: usize| {
            let products = vector.iter().enumerate().map(|(i, x)| {
                let row = (head * d_head + i) * n_rounds + round;
                x * rotations[row * half + bucket % half]
            });
            let sum = products.sum::<f64>();
            if bucket < half { sum } else { -sum }
        };
        let largest = (0..2 * half).map(projection).fold(f64::MIN, f64::max);
        assert!(
            largest - projection(bucket as usize) < 1e-4,
            "head {head}, round {round}, position {position}"
        );
    }
}

pub(crate) fn dropout_draws_the_same_bits<S: Subject>() {
    for n in [1, 4, 1023, 4097] {
        let key = Key::new(n as u64).fold(3);
        let found = S::Backend::dropout_factors([3, n], 0.3, key, &Default::default());
        let expected =
            reference::dropout_factors::<S::Judge, 2>([3, n], 0.3, key, &Default::default());
        assert_eq!(
            S::judged(found)
                .into_data()
                .iter::<f32>()
                .collect::<Vec<_>>(),
            expected.into_data().iter::<f32>().collect::<Vec<_>>()
        );
    }
}
