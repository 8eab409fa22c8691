//! See `experiments::programs::train_text`.

fn main() -> std::process::ExitCode {
    experiments::programs::train_text::main()
}
