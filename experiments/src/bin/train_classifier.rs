//! See `experiments::programs::train_classifier`.

fn main() -> std::process::ExitCode {
    experiments::programs::train_classifier::main()
}
