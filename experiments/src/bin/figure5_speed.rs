//! See `experiments::programs::studies::figure5_speed`.

fn main() -> std::process::ExitCode {
    experiments::programs::studies::figure5_speed::main()
}
