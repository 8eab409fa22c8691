//! See `experiments::programs::bench_step`.

fn main() -> std::process::ExitCode {
    experiments::programs::bench_step::main()
}
