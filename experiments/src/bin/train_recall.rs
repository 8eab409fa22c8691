//! See `experiments::programs::train_recall`.

fn main() -> std::process::ExitCode {
    experiments::programs::train_recall::main()
}
