//! Times products on a GPU (not for keeping).
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Distribution, Tensor};
use burn_cuda::Cuda;
use reformer_core::kernels::{LinearParents, ReformerBackend};
use std::time::Instant;
type B = Cuda;
fn time(mut f: impl FnMut(), device: &<B as burn::tensor::backend::BackendTypes>::Device) -> f64 {
    f();
    f();
    B::sync(device).unwrap();
    let n = 30;
    let start = Instant::now();
    for _ in 0..n {
        f();
    }
    B::sync(device).unwrap();
    start.elapsed().as_secs_f64() / n as f64
}
fn main() {
    let device = Default::default();
    let rows: usize = std::env::var("ROWS")
        .map(|r| r.parse().unwrap())
        .unwrap_or(65536);
    for (k, n) in [(512, 512), (512, 2048), (2048, 512), (512, 256)] {
        let draw = |shape: [usize; 3]| {
            Tensor::<B, 3>::random(shape, Distribution::Normal(0.0, 1.0), &device).cast(DType::BF16)
        };
        let x = draw([1, rows, k]);
        let g = draw([1, rows, n]);
        let w: Tensor<B, 2> = draw([1, k, n]).squeeze_dim(0);
        let flop = 2.0 * rows as f64 * k as f64 * n as f64 / 1e12;
        let wanted = |x, weight| LinearParents {
            x,
            weight,
            bias: false,
        };
        let f = time(
            || drop(B::linear_layer(x.clone(), w.clone(), None)),
            &device,
        );
        let dx = time(
            || {
                drop(B::linear_layer_backward(
                    x.clone(),
                    w.clone(),
                    g.clone(),
                    wanted(true, false),
                    DType::F32,
                ))
            },
            &device,
        );
        let dw = time(
            || {
                drop(B::linear_layer_backward(
                    x.clone(),
                    w.clone(),
                    g.clone(),
                    wanted(false, true),
                    DType::F32,
                ))
            },
            &device,
        );
        println!(
            "{rows} {k} {n}: forward {:.3} ms {:.0} TF, dx {:.3} {:.0}, dw {:.3} {:.0}",
            f * 1e3,
            flop / f,
            dx * 1e3,
            flop / dx,
            dw * 1e3,
            flop / dw
        );
    }
}
