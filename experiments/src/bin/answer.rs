//! See `experiments::programs::answer`.

fn main() -> std::process::ExitCode {
    experiments::programs::answer::main()
}
