//! See `experiments::programs::studies::lra`.

fn main() -> std::process::ExitCode {
    experiments::programs::studies::lra::main()
}
