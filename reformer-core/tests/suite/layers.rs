//! Position-wise layers and residuals against the reference.

use super::Subject;
use crate::common::{assert_close, integers, normal, numbers, relative_error};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};
use reformer_core::feed_forward::Activation;
use reformer_core::kernels::{LinearParents, ReformerBackend, Residual, reference};

/// In single precision.
pub(super) const NEAR: f64 = 2e-5;

/// Widths of whole vectors, of a few, and of none.
const SHAPES: [[usize; 3]; 3] = [[1, 1, 1], [2, 37, 6], [1, 300, 520]];

/// Errs at most twice as much as rounding a result does.
#[track_caller]
pub(super) fn assert_rounded<J: Backend>(
    what: &str,
    found: &[f64],
    exact: &Tensor<J, 3>,
    dtype: DType,
) {
    let rounded = numbers(exact.clone().cast(dtype));
    let exact = numbers(exact.clone());
    let (error, allowed) = (
        relative_error(found, &exact),
        2.0 * relative_error(&rounded, &exact).max(1e-7),
    );
    assert!(
        error <= allowed,
        "{what}, {dtype:?}: errs by {error:.2e}, above {allowed:.2e}"
    );
}

/// Rows that lie between others, as a part of the features of wider ones does.
pub(super) fn strided<B: Backend>(seed: u64, [batch_size, length, d]: [usize; 3]) -> Tensor<B, 3> {
    normal::<B, 3>(seed, [length, batch_size, d + 4])
        .swap_dims(0, 1)
        .slice_dim(2, 0..d)
}

pub(crate) fn normalisation_is_the_reference<S: Subject>() {
    for shape in SHAPES {
        let d = shape[2];
        let x = strided(1, shape) * 3 + 1;
        let [gamma, beta] = [2, 3].map(|seed| normal::<S::Backend, 1>(seed, [d]));
        let grad = normal::<S::Backend, 3>(4, shape);
        let [on_host, g] = [&x, &grad].map(|tensor| S::judged(tensor.clone()));
        let [gamma_on_host, beta_on_host] = [&gamma, &beta].map(|tensor| S::judged(tensor.clone()));
        let exact = reference::layer_normalization(
            on_host.clone(),
            gamma_on_host.clone(),
            beta_on_host,
            1e-6,
            DType::F32,
        );
        let normalise = |dtype| {
            S::Backend::layer_normalization(x.clone(), gamma.clone(), beta.clone(), 1e-6, dtype)
        };
        let found = numbers(normalise(DType::F32));
        assert_close("output", &found, &numbers(exact.clone()), NEAR);
        let expected = reference::layer_normalization_backward(
            on_host.clone(),
            gamma_on_host.clone(),
            1e-6,
            g,
            None,
        );
        let differentiate_onto = |grad, sum| {
            S::Backend::layer_normalization_backward(x.clone(), gamma.clone(), 1e-6, grad, sum)
        };
        let differentiate = |grad| differentiate_onto(grad, None);
        let run = || {
            let of = differentiate(grad.clone());
            [numbers(of.x), numbers(of.gamma), numbers(of.beta)]
        };
        let found = run();
        assert_eq!(found, run(), "the same bits every time");
        let expected = [
            numbers(expected.x),
            numbers(expected.gamma),
            numbers(expected.beta),
        ];
        for (what, (found, expected)) in ["dx", "dgamma", "dbeta"]
            .iter()
            .zip(found.iter().zip(&expected))
        {
            // One feature is its own mean: nothing is left of it.
            if d > 1 || *what == "dbeta" {
                assert_close(&format!("{what} of {shape:?}"), found, expected, NEAR);
            }
        }
        // The gradient that the input has already: strided, shared, and nobody else's.
        let sum = strided(5, shape);
        let kept = numbers(sum.clone());
        let both: Vec<_> = kept.iter().zip(&expected[0]).map(|(a, b)| a + b).collect();
        let onto = |sum| {
            let found = differentiate_onto(grad.clone(), Some(sum));
            assert_close("sum and dx", &numbers(found.x), &both, NEAR);
        };
        if d > 1 {
            onto(sum.clone());
            assert_eq!(numbers(sum.clone()), kept, "what others hold must stay");
            onto(sum * 1);
        }
        for dtype in S::halves() {
            let found = normalise(dtype);
            assert_eq!(found.dtype(), dtype);
            if d > 1 {
                assert_rounded("norm", &numbers(found), &exact, dtype);
            }
            let rounded = grad.clone().cast(dtype);
            let expected = reference::layer_normalization_backward(
                on_host.clone(),
                gamma_on_host.clone(),
                1e-6,
                S::wide(rounded.clone()),
                None,
            );
            let found = differentiate(rounded);
            assert_eq!(found.x.dtype(), DType::F32);
            assert_close(
                "dbeta of half",
                &numbers(found.beta),
                &numbers(expected.beta),
                NEAR,
            );
            if d > 1 {
                assert_close("dx of half", &numbers(found.x), &numbers(expected.x), NEAR);
            }
        }
    }
}

const ACTIVATIONS: [Activation; 6] = [
    Activation::Relu,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Silu,
    Activation::Tanh,
    Activation::Sigmoid,
];

pub(crate) fn activations_are_the_reference<S: Subject>() {
    for (shape, activations) in [
        ([2, 37, 6], &ACTIVATIONS[1..2]),
        ([1, 300, 132], &ACTIVATIONS[..]),
    ] {
        let x = strided(1, shape) * 3;
        let grad = strided(2, shape);
        let bias = normal::<S::Backend, 1>(3, [shape[2]]);
        let on_host = [&x, &grad].map(|tensor| S::judged(tensor.clone()));
        for &activation in activations {
            let name = format!("{activation:?} of {shape:?}");
            let [x_on_host, grad_on_host] = on_host.clone();
            let found = S::Backend::activation(x.clone(), activation);
            let expected = reference::activation(x_on_host.clone(), activation);
            assert_close(&name, &numbers(found), &numbers(expected), NEAR);
            let found = S::Backend::activation_backward(x.clone(), activation, grad.clone());
            let expected =
                reference::activation_backward(x_on_host.clone(), activation, grad_on_host.clone());
            assert_close(
                &format!("slope of {name}"),
                &numbers(found),
                &numbers(expected),
                NEAR,
            );

            let of_bias = S::judged(bias.clone());
            let found = S::Backend::biased_activation(x.clone(), bias.clone(), activation);
            let expected =
                reference::biased_activation(x_on_host.clone(), of_bias.clone(), activation);
            assert_close(&name, &numbers(found), &numbers(expected), NEAR);
            let run = || {
                let (x, bias) = S::Backend::biased_activation_backward(
                    x.clone(),
                    bias.clone(),
                    activation,
                    grad.clone(),
                );
                [numbers(x), numbers(bias)]
            };
            let found = run();
            assert_eq!(found, run(), "the same bits every time");
            let (of_x, of_bias) =
                reference::biased_activation_backward(x_on_host, of_bias, activation, grad_on_host);
            assert_close(&format!("dx of {name}"), &found[0], &numbers(of_x), NEAR);
            assert_close(
                &format!("dbias of {name}"),
                &found[1],
                &numbers(of_bias),
                NEAR,
            );
        }
        for dtype in S::halves() {
            let [x, grad] = [&x, &grad].map(|tensor| tensor.clone().cast(dtype));
            let activation = Activation::Gelu;
            let found = S::Backend::biased_activation(x.clone(), bias.clone(), activation);
            assert_eq!(found.dtype(), dtype);
            let exact = reference::biased_activation(
                S::wide(x.clone()),
                S::judged(bias.clone()),
                activation,
            );
            assert_rounded("activation", &numbers(found), &exact, dtype);
            let (found, of_bias) = S::Backend::biased_activation_backward(
                x.clone(),
                bias.clone(),
                activation,
                grad.clone(),
            );
            let (exact, expected) = reference::biased_activation_backward(
                S::wide(x),
                S::judged(bias.clone()),
                activation,
                S::wide(grad),
            );
            assert_rounded("slope", &numbers(found), &exact, dtype);
            assert_close("dbias of half", &numbers(of_bias), &numbers(expected), NEAR);
        }
    }
}

pub(crate) fn gradients_of_biases_are_sums<S: Subject>() {
    let wanted = LinearParents {
        x: false,
        weight: false,
        bias: true,
    };
    for shape @ [batch_size, length, d] in SHAPES {
        for dtype in [vec![DType::F32], S::halves()].concat() {
            let x = Tensor::<S::Backend, 3>::zeros([batch_size, length, 3], &Default::default());
            let weight = Tensor::<S::Backend, 2>::zeros([3, d], &Default::default());
            let grad = strided(3, shape).cast(dtype);
            let run = || {
                let (x, weight) = (x.clone().cast(dtype), weight.clone().cast(dtype));
                let of = S::Backend::linear_layer_backward(x, weight, grad.clone(), wanted, dtype);
                assert!(of.x.is_none() && of.weight.is_none());
                of.bias.unwrap()
            };
            let found = run();
            assert_eq!(found.dtype(), dtype);
            let found = numbers(found);
            assert_eq!(found, numbers(run()), "the same bits every time");
            let exact: Tensor<S::Judge, 1> = S::wide(grad).sum_dims_squeeze(&[0, 1]);
            if dtype == DType::F32 {
                assert_close(&format!("{shape:?}"), &found, &numbers(exact), NEAR);
            } else {
                assert_rounded("sums", &found, &exact.unsqueeze(), dtype);
            }
        }
    }
}

/// Sums over so many rows that there are as many segments of them as ever, of whole numbers: exact in any order.
pub(crate) fn gradients_of_biases_are_sums_of_segments<S: Subject>() {
    for shape in [[2, 17_001, 4], [3, 513, 6], [1, 512, 8], [1, 100, 130]] {
        let whole = |seed| integers::<S::Backend, 3>(seed, shape, 9).float() - 4.0;
        let (x, bias) = (whole(1), Tensor::zeros([shape[2]], &Default::default()));
        let linear = S::Backend::linear_layer_backward(
            x.clone(),
            Tensor::zeros([shape[2]; 2], &Default::default()),
            x.clone(),
            LinearParents {
                x: false,
                weight: false,
                bias: true,
            },
            DType::F32,
        );
        let exact: Tensor<S::Judge, 1> = S::judged(x.clone()).sum_dims_squeeze(&[0, 1]);
        let exact = numbers(exact);
        assert_eq!(numbers(linear.bias.unwrap()), exact, "bias, {shape:?}");

        let of = S::Backend::layer_normalization_backward(
            x.clone(),
            bias.clone(),
            1e-6,
            x.clone(),
            None,
        );
        assert_eq!(numbers(of.beta), exact, "beta, {shape:?}");

        // Only those of positive inputs.
        let (of_x, of_bias) =
            S::Backend::biased_activation_backward(x.clone(), bias, Activation::Relu, x);
        let positive: Tensor<S::Judge, 1> = S::judged(of_x).sum_dims_squeeze(&[0, 1]);
        assert_eq!(numbers(of_bias), numbers(positive), "activation, {shape:?}");
    }
}

/// Sums over so many rows that they are computed in parts, of whole numbers: exact in any order.
pub(crate) fn gradients_of_weights_are_sums_of_parts<S: Subject>() {
    let wanted = LinearParents {
        x: false,
        weight: true,
        bias: false,
    };
    let [batch_size, length] = [2, 1536];
    let whole = |seed, d| integers::<S::Backend, 3>(seed, [batch_size, length, d], 9).float() - 4.0;
    let (x, grad) = (whole(1, 16), whole(2, 24));
    let weight = Tensor::<S::Backend, 2>::zeros([16, 24], &Default::default());
    let of = S::Backend::linear_layer_backward(
        x.clone(),
        weight.clone(),
        grad.clone(),
        wanted,
        DType::F32,
    );
    let expected = reference::linear_layer_backward(
        S::judged(x),
        S::judged(weight),
        S::judged(grad),
        wanted,
        DType::F32,
    );
    assert_eq!(
        numbers(of.weight.unwrap()),
        numbers(expected.weight.unwrap())
    );
}

/// Products of whole numbers are exact, so that a gradient that is not rounded to half precision shows.
/// The larger ones are for tensor cores: they have blocks that overlap, and sums in parts.
pub(crate) fn linear_layers_of_half_precision_have_wide_parameters<S: Subject>() {
    for dtype in S::halves() {
        for sizes in [
            [2, 300, 16, 24],
            [2, 320, 192, 320],
            [1, 2176, 128, 200],
            [1, 2200, 128, 128],
        ] {
            linear_layer_in_half_precision::<S>(sizes, dtype);
        }
    }
}

fn linear_layer_in_half_precision<S: Subject>(
    [batch_size, seq_length, d_in, d_out]: [usize; 4],
    dtype: DType,
) {
    let wanted = LinearParents {
        x: true,
        weight: true,
        bias: true,
    };
    let whole = |seed, shape: [usize; 3]| integers::<S::Backend, 3>(seed, shape, 9).float() - 4.0;
    let x = whole(1, [batch_size, seq_length, d_in]).cast(dtype);
    let weight = whole(2, [1, d_in, d_out]).squeeze_dim::<2>(0);
    let bias = whole(3, [1, 1, d_out]).reshape([d_out]);
    let output = S::Backend::linear_layer(x.clone(), weight.clone(), Some(bias.clone()));
    assert_eq!(output.dtype(), dtype);
    let exact = reference::linear_layer(
        S::wide(x.clone()),
        S::judged(weight.clone()),
        Some(S::judged(bias)),
    );
    assert_rounded("output", &numbers(output), &exact, dtype);

    let grad = whole(4, [batch_size, seq_length, d_out]).cast(dtype);
    let lowered = weight.clone().cast(dtype);
    let expected = reference::linear_layer_backward(
        S::wide(x.clone()),
        S::judged(weight),
        S::wide(grad.clone()),
        wanted,
        DType::F32,
    );
    // Where nobody else has the gradient, its memory may be written to.
    let found = S::Backend::linear_layer_backward(x, lowered, grad, wanted, DType::F32);
    let (found_x, expected_x) = (found.x.unwrap(), expected.x.unwrap());
    assert_rounded("dx", &numbers(found_x), &expected_x, dtype);
    let pairs = [
        (
            numbers(found.weight.unwrap()),
            numbers(expected.weight.unwrap()),
        ),
        (
            numbers(found.bias.unwrap()),
            numbers(expected.bias.unwrap()),
        ),
    ];
    for (found, expected) in pairs {
        assert_eq!(found, expected, "gradients of parameters");
    }
}

pub(crate) fn residuals_are_the_reference<S: Subject>() {
    for direction in [Residual::Add, Residual::Subtract] {
        for d in [5, 64] {
            let parts = [[2, 7, d], [2, 1, d], [2, 12, d]];
            let x = normal::<S::Backend, 3>(1, [2, 20, d]);
            for dtype in [vec![DType::F32], S::halves()].concat() {
                let parts = || parts.map(|shape| strided(7, shape).cast(dtype)).to_vec();
                let on_host = parts().into_iter().map(S::wide).collect();
                let expected = numbers(reference::residual(
                    S::judged(x.clone()),
                    on_host,
                    direction,
                ));
                let kept = S::Backend::residual(x.clone(), parts(), direction);
                assert_eq!(numbers(kept), expected, "beside one that is kept");
                assert_eq!(
                    numbers(x.clone()),
                    numbers(normal::<S::Backend, 3>(1, [2, 20, d]))
                );
                let own = normal::<S::Backend, 3>(1, [2, 20, d]);
                let in_place = S::Backend::residual(own, parts(), direction);
                assert_eq!(numbers(in_place), expected, "in place");
                for keep in [false, true] {
                    let own = normal::<S::Backend, 3>(1, [2, 20, d]);
                    let kept = keep.then(|| own.clone());
                    let starts = [0, 7, 8].into_iter().zip(parts());
                    let one_by_one = starts.fold(own, |x, (start, part)| {
                        S::Backend::residual_at(x, start, part, direction)
                    });
                    assert_eq!(numbers(one_by_one), expected, "one by one");
                    let untouched = kept.is_none_or(|kept| numbers(kept) == numbers(x.clone()));
                    assert!(untouched, "what somebody else has is written to");
                }
            }
        }
    }
}
