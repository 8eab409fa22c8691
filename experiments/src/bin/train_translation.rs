//! See `experiments::programs::train_translation`.

fn main() -> std::process::ExitCode {
    experiments::programs::train_translation::main()
}
