//! See `experiments::programs::studies::figure5_depth`.

fn main() -> std::process::ExitCode {
    experiments::programs::studies::figure5_depth::main()
}
