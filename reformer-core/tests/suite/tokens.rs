//! The loss, rotation by position and the gradient of embeddings against the reference.

use super::Subject;
use super::layers::{NEAR, assert_rounded, strided};
use crate::common::{assert_close, integers, normal, numbers};
use burn::tensor::{DType, Tensor};
use reformer_core::kernels::{ReformerBackend, Rotation, reference};

pub(crate) fn losses_are_the_reference<S: Subject>() {
    for [batch_size, length, n] in [[1, 1, 2], [2, 37, 5], [1, 300, 256], [2, 9, 1001]] {
        // Few values, so that some are the largest together.
        let logits = integers::<S::Backend, 3>(1, [batch_size, length, n], 9).float() * 0.7;
        let targets = integers::<S::Backend, 2>(2, [batch_size, length], n as u32 + 2) - 2;
        let grad = Tensor::<S::Backend, 1>::full([1], 0.37, &Default::default());
        for dtype in [vec![DType::F32], S::halves()].concat() {
            let logits = logits.clone().cast(dtype);
            let (on_host, of_host) = (S::wide(logits.clone()), S::judged(targets.clone()));
            let found = S::Backend::token_loss(logits.clone(), targets.clone());
            let expected = reference::token_loss(on_host.clone(), of_host.clone());
            assert_close("loss", &numbers(found.nll), &numbers(expected.nll), NEAR);
            assert_eq!(numbers(found.n_correct), numbers(expected.n_correct));
            let found = S::Backend::token_loss_backward(logits, targets.clone(), grad.clone());
            assert_eq!(found.dtype(), dtype);
            let exact = reference::token_loss_backward(on_host, of_host, S::judged(grad.clone()));
            if dtype == DType::F32 {
                assert_close("gradient", &numbers(found), &numbers(exact), NEAR);
            } else {
                assert_rounded("gradient", &numbers(found), &exact, dtype);
            }
        }
    }
}

pub(crate) fn rotations_are_the_reference<S: Subject>() {
    // Angles of many turns, and heads of whole vectors and of single pairs.
    for [batch_size, n_heads, length, d_head] in [[2, 3, 37, 6], [1, 2, 70_001, 8], [2, 2, 33, 64]]
    {
        let heads =
            normal::<S::Backend, 4>(1, [batch_size, length, n_heads, d_head]).swap_dims(1, 2);
        for rotation in [Rotation::Apply, Rotation::Undo] {
            let found = S::Backend::rotate(heads.clone(), 10_000.0, rotation);
            let expected = reference::rotate(S::judged(heads.clone()), 10_000.0, rotation);
            assert_close("heads", &numbers(found), &numbers(expected), NEAR);
        }
        for dtype in S::halves() {
            let heads = heads.clone().cast(dtype);
            let found = S::Backend::rotate(heads.clone(), 10_000.0, Rotation::Apply);
            assert_eq!(found.dtype(), dtype);
            let exact = reference::rotate(S::wide(heads), 10_000.0, Rotation::Apply);
            let shape = [batch_size * n_heads, length, d_head];
            let found = numbers(found.reshape(shape));
            assert_rounded("heads", &found, &exact.reshape(shape), dtype);
        }
        let heads = heads.slice_dim(2, 0..1);
        let positions = &[1_048_575, 12_345_678][..batch_size];
        let found = S::Backend::rotate_at(heads.clone(), positions, 10_000.0);
        let expected = reference::rotate_at(S::judged(heads), positions, 10_000.0);
        assert_close(
            "heads at positions",
            &numbers(found),
            &numbers(expected),
            NEAR,
        );
    }
}

pub(crate) fn gradients_of_embeddings_are_the_reference<S: Subject>() {
    for (shape @ [batch_size, length, d], n_tokens) in [
        ([1, 1, 4], 3),
        ([2, 37, 5], 7),
        ([2, 600, 36], 300),
        ([1, 3000, 132], 2),
    ] {
        let weight = Tensor::<S::Backend, 2>::zeros([n_tokens, d], &Default::default());
        let grad = strided(1, shape);
        let drawn = integers::<S::Backend, 2>(2, [batch_size, length], n_tokens as u32);
        // Everywhere the same but here and there.
        let same = integers::<S::Backend, 2>(3, [batch_size, length], 50)
            .equal_elem(0)
            .int();
        for tokens in [drawn, same] {
            let run = || {
                numbers(S::Backend::token_vectors_backward(
                    weight.clone(),
                    tokens.clone(),
                    grad.clone(),
                ))
            };
            let found = run();
            assert_eq!(found, run(), "the same bits every time");
            let expected = reference::token_vectors_backward(
                S::judged(weight.clone()),
                S::judged(tokens),
                S::judged(grad.clone()),
            );
            assert_close(&format!("{shape:?}"), &found, &numbers(expected), NEAR);
        }
    }
}
