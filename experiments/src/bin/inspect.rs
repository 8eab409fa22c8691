//! See `experiments::programs::inspect`.

fn main() -> std::process::ExitCode {
    experiments::programs::inspect::main()
}
