//! See `experiments::programs::studies::figure4`.

fn main() -> std::process::ExitCode {
    experiments::programs::studies::figure4::main()
}
