//! See `experiments::programs::plot_steps`.

fn main() -> std::process::ExitCode {
    experiments::programs::plot_steps::main()
}
