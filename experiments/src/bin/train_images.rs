//! See `experiments::programs::train_images`.

fn main() -> std::process::ExitCode {
    experiments::programs::train_images::main()
}
