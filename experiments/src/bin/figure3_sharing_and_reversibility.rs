//! See `experiments::programs::studies::figure3`.

fn main() -> std::process::ExitCode {
    experiments::programs::studies::figure3::main()
}
