//! See `experiments::programs::train_duplication`.

fn main() -> std::process::ExitCode {
    experiments::programs::train_duplication::main()
}
