//! See `experiments::programs::studies::finding`.

fn main() -> std::process::ExitCode {
    experiments::programs::studies::finding::main()
}
