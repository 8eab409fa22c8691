//! Cross-entropy of tokens: logits are read in their own type, and no softmax is stored.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;

use super::common::{LANES, TEAMS, UNITS, over_lanes};
use super::device::{Cube, Floats, Ints, empty, offsets, side_by_side};
use super::strided::{Strided, strided};
use super::sums::units;
use crate::kernels::TokenLoss;

/// Maximum number of rows that a cube processes, eight at a time.
const ROWS_OF_CUBE: usize = 64;

/// Softmax statistics of a row.
#[derive(CubeType, Clone, Copy)]
struct Softmax {
    max: f32,
    sum: f32,
    /// Index of the largest logit, the first one of equals.
    at: u32,
}

/// Shared memory of a cube.
#[derive(CubeType)]
struct Shared {
    numbers: SharedMemory<f32>,
    places: SharedMemory<u32>,
}

#[cube]
fn room() -> Shared {
    Shared {
        numbers: SharedMemory::<f32>::new(comptime![UNITS as usize]),
        places: SharedMemory::<u32>::new(comptime![UNITS as usize]),
    }
}

/// The softmax of the row that begins at `first`. All units of the cube must call it.
#[cube]
fn softmax<F: Float>(
    logits: &Strided<F>,
    first: usize,
    shared: &mut Shared,
    #[comptime] n: u32,
) -> Softmax {
    let mut largest = f32::min_value();
    let mut at = 0u32.runtime();
    for i in range_stepped(UNIT_POS_X, n, LANES) {
        let logit = f32::cast_from(logits.vectors[first + i as usize]);
        if logit > largest {
            largest = logit;
            at = i;
        }
    }
    let of_row = UNIT_POS_Y * LANES;
    sync_cube();
    shared.numbers[(of_row + UNIT_POS_X) as usize] = largest;
    shared.places[(of_row + UNIT_POS_X) as usize] = at;
    sync_cube();
    largest = shared.numbers[of_row as usize];
    at = shared.places[of_row as usize];
    for lane in 1..LANES {
        let other = shared.numbers[(of_row + lane) as usize];
        let place = shared.places[(of_row + lane) as usize];
        if other > largest || (other == largest && place < at) {
            largest = other;
            at = place;
        }
    }
    let mut sum = 0.0f32.runtime();
    for i in range_stepped(UNIT_POS_X, n, LANES) {
        sum += (f32::cast_from(logits.vectors[first + i as usize]) - largest).exp();
    }
    Softmax {
        max: largest,
        sum: over_lanes(sum, &mut shared.numbers, LANES),
        at,
    }
}

/// Sums over a cube's rows: negative log-likelihoods, and correctly predicted targets.
#[cube(launch, address_type = "dynamic")]
fn lose<F: Float, I: Int>(
    logits: &Strided<F>,
    targets: &Array<I>,
    sums: &mut Array<f32>,
    n_rows: usize,
    n_cubes: usize,
    #[comptime] n: u32,
    #[define(F, I)] _dtypes: [StorageType; 2],
) {
    if CUBE_POS >= n_cubes {
        terminate!();
    }
    let teams = comptime![TEAMS as usize];
    let mut shared = room();
    let mut nll = 0.0f32.runtime();
    let mut correct = 0.0f32.runtime();
    for first in range_stepped(CUBE_POS * teams, n_rows, n_cubes * teams) {
        let row = first + UNIT_POS_Y as usize;
        // Teams without a row use the last one.
        let from = min(row, n_rows - 1);
        let of_row = logits.row(from);
        let found = softmax(logits, of_row, &mut shared, n);
        let target = i32::cast_from(targets[from]);
        if row < n_rows && target >= 0 {
            // Out of range only by a bug of the caller; clamped to avoid invalid memory accesses.
            let target = min(target as u32, n - 1);
            let logit = f32::cast_from(logits.vectors[of_row + target as usize]);
            nll += found.sum.ln() - (logit - found.max);
            if found.at == target {
                correct += 1.0;
            }
        }
    }
    // All lanes of a team have the same sums.
    sync_cube();
    if UNIT_POS_X == 0 {
        shared.numbers[UNIT_POS_Y as usize] = nll;
        shared.numbers[(TEAMS + UNIT_POS_Y) as usize] = correct;
    }
    sync_cube();
    if UNIT_POS < 2u32 {
        let mut sum = 0.0f32.runtime();
        for team in 0..TEAMS {
            sum += shared.numbers[(UNIT_POS * TEAMS + team) as usize];
        }
        sums[UNIT_POS as usize * n_cubes + CUBE_POS] = sum;
    }
}

/// The sum over all cubes, with one cube for each of the two sums.
#[cube(launch, address_type = "dynamic")]
fn add_up(sums: &Array<f32>, nll: &mut Array<f32>, n_correct: &mut Array<f32>, n_cubes: usize) {
    let mut shared = SharedMemory::<f32>::new(comptime![UNITS as usize]);
    let mut sum = 0.0f32.runtime();
    for i in range_stepped(UNIT_POS as usize, n_cubes, comptime![UNITS as usize]) {
        sum += sums[CUBE_POS_X as usize * n_cubes + i];
    }
    shared[UNIT_POS as usize] = sum;
    sync_cube();
    if UNIT_POS == 0 {
        let mut sum = 0.0f32.runtime();
        for unit in 0..UNITS {
            sum += shared[unit as usize];
        }
        if CUBE_POS_X == 0 {
            nll[0] = sum;
        } else {
            n_correct[0] = sum;
        }
    }
}

/// See [`ReformerBackend::token_loss`](crate::kernels::ReformerBackend::token_loss).
pub(in crate::kernels) fn token_loss<B: Cube>(
    logits: Floats<B, 3>,
    targets: Ints<B, 2>,
) -> TokenLoss<B> {
    let [batch_size, seq_length, n] = logits.dims();
    let logits = side_by_side(B::floats(logits));
    let targets = into_contiguous(B::ints(targets));
    let n_rows = batch_size * seq_length;
    let n_cubes = n_rows.div_ceil(ROWS_OF_CUBE).max(1);
    let sums = empty(&logits, [2, n_cubes], DType::F32);
    let [nll, n_correct] = [(); 2].map(|()| empty(&logits, [1], DType::F32));
    let client = logits.client.clone();
    let dtypes = [logits.dtype.into(), targets.dtype.into()];
    lose::launch(
        &client,
        calculate_cube_count_elemwise(&client, n_cubes * UNITS as usize, units()),
        units(),
        offsets(&[&logits]),
        strided(logits, 1),
        targets.into_array_arg(),
        sums.clone().into_array_arg(),
        n_rows,
        n_cubes,
        n as u32,
        dtypes,
    );
    add_up::launch(
        &client,
        CubeCount::Static(2, 1, 1),
        CubeDim::new_1d(UNITS),
        offsets(&[&sums]),
        sums.into_array_arg(),
        nll.clone().into_array_arg(),
        n_correct.clone().into_array_arg(),
        n_cubes,
    );
    TokenLoss {
        nll: B::of_floats(nll),
        n_correct: B::of_floats(n_correct),
    }
}

#[cube(launch, address_type = "dynamic")]
fn differentiate<F: Float, I: Int>(
    logits: &Strided<F>,
    targets: &Array<I>,
    grad: &Array<f32>,
    output: &mut Array<F>,
    n_rows: usize,
    #[comptime] n: u32,
    #[define(F, I)] _dtypes: [StorageType; 2],
) {
    let mut shared = room();
    let row = CUBE_POS * comptime![TEAMS as usize] + UNIT_POS_Y as usize;
    let from = min(row, n_rows - 1);
    let of_row = logits.row(from);
    let found = softmax(logits, of_row, &mut shared, n);
    let target = i32::cast_from(targets[from]);
    let mut scale = grad[0];
    if target < 0 {
        scale = 0.0;
    }
    if row < n_rows {
        for i in range_stepped(UNIT_POS_X, n, LANES) {
            let logit = f32::cast_from(logits.vectors[of_row + i as usize]);
            let mut share = (logit - found.max).exp() / found.sum;
            if i as i32 == target {
                share -= 1.0;
            }
            output[row * comptime![n as usize] + i as usize] = F::cast_from(share * scale);
        }
    }
}

/// See [`ReformerBackend::token_loss_backward`](crate::kernels::ReformerBackend::token_loss_backward).
pub(in crate::kernels) fn token_loss_backward<B: Cube>(
    logits: Floats<B, 3>,
    targets: Ints<B, 2>,
    grad: Floats<B, 1>,
) -> Floats<B, 3> {
    let shape @ [batch_size, seq_length, n] = logits.dims();
    let logits = side_by_side(B::floats(logits));
    let targets = into_contiguous(B::ints(targets));
    let output = empty(&logits, shape, logits.dtype);
    let n_rows = batch_size * seq_length;
    let client = logits.client.clone();
    let dtypes = [logits.dtype.into(), targets.dtype.into()];
    differentiate::launch(
        &client,
        calculate_cube_count_elemwise(&client, n_rows * LANES as usize, units()),
        units(),
        offsets(&[&logits]),
        strided(logits, 1),
        targets.into_array_arg(),
        B::floats(grad.cast(DType::F32)).into_array_arg(),
        output.clone().into_array_arg(),
        n_rows,
        n as u32,
        dtypes,
    );
    B::of_floats(output)
}
