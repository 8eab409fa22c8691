//! See `experiments::programs::studies::use_of_context`.

fn main() -> std::process::ExitCode {
    experiments::programs::studies::use_of_context::main()
}
