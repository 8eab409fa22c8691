//! See `experiments::programs::train_qa`.

fn main() -> std::process::ExitCode {
    experiments::programs::train_qa::main()
}
