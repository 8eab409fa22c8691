//! See `experiments::programs::reformer`.

fn main() -> std::process::ExitCode {
    experiments::programs::reformer::main()
}
