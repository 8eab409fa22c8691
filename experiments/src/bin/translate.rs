//! See `experiments::programs::translate`.

fn main() -> std::process::ExitCode {
    experiments::programs::translate::main()
}
