//! See `experiments::programs::studies::recall`.

fn main() -> std::process::ExitCode {
    experiments::programs::studies::recall::main()
}
