//! See `experiments::programs::evaluate`.

fn main() -> std::process::ExitCode {
    experiments::programs::evaluate::main()
}
