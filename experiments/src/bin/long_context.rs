//! See `experiments::programs::studies::long_context`.

fn main() -> std::process::ExitCode {
    experiments::programs::studies::long_context::main()
}
