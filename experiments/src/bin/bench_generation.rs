//! See `experiments::programs::bench_generation`.

fn main() -> std::process::ExitCode {
    experiments::programs::bench_generation::main()
}
