//! Hashing, sorting and random numbers against what the host computes.

use crate::common::{integers, normal};
use crate::{Gpu, adapter, judged};
use burn::tensor::{Int, Tensor, TensorData};
use burn_flex::Flex;
use reformer_core::Key;
use reformer_core::kernels::{ReformerBackend, SlotLayout, Slots, reference};

fn list<const D: usize>(tensor: Tensor<Flex, D, Int>) -> Vec<i32> {
    tensor.into_data().iter::<i32>().collect()
}

/// Orders of all rounds; the reference has no more slots than it needs, and what the kernel has
/// beyond them must be empty.
fn assert_same_order(buckets: Tensor<Gpu, 4, Int>, n_buckets: usize, layout: SlotLayout) {
    let found = Gpu::bucket_sort(buckets.clone(), n_buckets, layout);
    assert_order_of(found, judged(buckets.clone()), n_buckets, layout);
    let rounds = reference::with_local_round(judged(buckets.clone()), n_buckets);
    let found = Gpu::sort_rounds(buckets, n_buckets, layout, true);
    assert_order_of(found, rounds, n_buckets, layout);
}

fn assert_order_of(
    found: Slots<Gpu>,
    buckets: Tensor<Flex, 4, Int>,
    n_buckets: usize,
    layout: SlotLayout,
) {
    let expected = reference::bucket_sort(buckets.clone(), n_buckets, layout);
    let name = format!("{:?}, {n_buckets} buckets, {layout:?}", buckets.dims());
    assert_eq!(
        list(judged(found.slot_of)),
        list(expected.slot_of),
        "{name}"
    );
    assert_eq!(list(judged(found.buckets)), list(buckets), "{name}");
    let (n_found, n_expected) = (found.order.dims()[3], expected.order.dims()[3]);
    assert!(n_found >= n_expected, "{name}");
    let found = list(judged(found.order));
    let expected = list(expected.order);
    let rounds = found.chunks(n_found).zip(expected.chunks(n_expected));
    for (found, expected) in rounds {
        assert_eq!(found[..n_expected], *expected, "{name}");
        assert!(found[n_expected..].iter().all(|slot| *slot == -1), "{name}");
    }
}

#[test]
fn sorting_is_the_reference() {
    let Some(_adapter) = adapter() else { return };
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
            assert_same_order(buckets, n_buckets, layout);
        }
    }
    // All in one, and as they lie in a model: heads between positions.
    let one = Tensor::<Gpu, 4, Int>::zeros([1, 1, 2, 1000], &Default::default());
    assert_same_order(one + 5, 9, SlotLayout::BucketAligned(32));
    let strided: Tensor<Gpu, 4, Int> = integers(3, [1, 300, 2, 2], 8);
    assert_same_order(strided.permute([0, 2, 3, 1]), 8, SlotLayout::Dense(16));
}

/// A whole length of the paper, in a row that many cubes share.
#[test]
fn a_long_sequence_is_sorted() {
    if let Some(_adapter) = adapter() {
        let buckets = integers(1, [1, 1, 1, 1 << 17], 4097);
        assert_same_order(buckets, 4097, SlotLayout::BucketAligned(32));
    }
}

/// With whole numbers every order of additions gives the same, ties included.
#[test]
fn hashing_whole_numbers_is_the_reference() {
    let Some(_adapter) = adapter() else { return };
    let cases: [(_, &[usize]); 4] = [(4, &[8]), (64, &[16, 32]), (20, &[2, 4, 6]), (128, &[200])];
    for (d_head, factors) in cases {
        let n_projections = factors.iter().sum::<usize>() / 2;
        // Few values, so that ties are common.
        let vectors = integers::<Gpu, 4>(1, [2, 3, 131, d_head], 3).float() - 1.0;
        let rotations = integers::<Gpu, 4>(2, [3, d_head, 2, n_projections], 5).float() - 2.0;
        let found = Gpu::hash(vectors.clone(), rotations.clone(), factors);
        let expected = reference::hash(judged(vectors), judged(rotations), factors);
        assert_eq!(list(judged(found)), list(expected), "{d_head}, {factors:?}");
    }
}

/// A bucket may differ only where two projections are equal but for rounding.
#[test]
fn hashing_follows_the_largest_projection() {
    let Some(_adapter) = adapter() else { return };
    let (d_head, half, n_rounds) = (64, 32, 3);
    let vectors: Tensor<Gpu, 4> = normal(1, [1, 500, 2, d_head]);
    let vectors = vectors.swap_dims(1, 2);
    let rotations: Tensor<Gpu, 4> = normal(2, [2, d_head, n_rounds, half]);
    let found = list(judged(Gpu::hash(
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

#[test]
fn dropout_draws_the_same_bits() {
    let Some(_adapter) = adapter() else { return };
    for n in [1, 4, 1023, 4097] {
        let key = Key::new(n as u64).fold(3);
        let found = Gpu::dropout_factors([3, n], 0.3, key, &Default::default());
        let expected = reference::dropout_factors::<Flex, 2>([3, n], 0.3, key, &Default::default());
        assert_eq!(
            judged(found).into_data().iter::<f32>().collect::<Vec<_>>(),
            expected.into_data().iter::<f32>().collect::<Vec<_>>()
        );
    }
}
