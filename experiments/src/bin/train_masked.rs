//! See `experiments::programs::train_masked`.

fn main() -> std::process::ExitCode {
    experiments::programs::train_masked::main()
}
