//! See `experiments::programs::classify`.

fn main() -> std::process::ExitCode {
    experiments::programs::classify::main()
}
