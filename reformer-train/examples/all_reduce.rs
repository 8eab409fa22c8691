//! Measures how long summing gradients over processes takes, by their number and transport.
//!
//! ```sh
//! cargo build --release -p reformer-train --features mpi --example all_reduce
//! mpirun -n 4 --bind-to none target/release/examples/all_reduce
//! ```
//!
//! Prints a line of JSON for each size, with the shortest and the median time of several rounds.

use std::error::Error;
use std::time::Duration;

use reformer_train::parallel::{abort, await_turn, join, leave};

const N_VALUES: [usize; 3] = [100_000, 5_000_000, 25_000_000];
const ROUNDS: usize = 7;

fn main() {
    if let Err(error) = measure() {
        await_turn();
        eprintln!("error: {error}");
        abort(1);
        std::process::exit(1);
    }
    leave();
}

fn measure() -> Result<(), Box<dyn Error>> {
    let group = join(Duration::from_secs(600))?;
    let group = group.ok_or("mpirun or srun did not start this")?;
    for n_values in N_VALUES {
        for as_half in [false, true] {
            let round = |_| group.measure_sum(n_values, as_half);
            let times: Result<Vec<Duration>, _> = (0..ROUNDS).map(round).collect();
            let mut times = times?;
            times.sort();
            if group.is_first() {
                println!(
                    "{{\"processes\": {}, \"values\": {n_values}, \"as_half\": {as_half}, \
                     \"shortest_ms\": {:.2}, \"middle_ms\": {:.2}}}",
                    group.size(),
                    1e3 * times[0].as_secs_f64(),
                    1e3 * times[ROUNDS / 2].as_secs_f64(),
                );
            }
        }
    }
    Ok(())
}
