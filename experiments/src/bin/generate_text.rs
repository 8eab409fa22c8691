//! See `experiments::programs::generate_text`.

fn main() -> std::process::ExitCode {
    experiments::programs::generate_text::main()
}
