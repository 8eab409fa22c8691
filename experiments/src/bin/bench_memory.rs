//! See `experiments::programs::bench_memory`.

fn main() -> std::process::ExitCode {
    experiments::programs::bench_memory::main()
}
