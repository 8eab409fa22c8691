//! See `experiments::programs::studies::ablation_window`.

fn main() -> std::process::ExitCode {
    experiments::programs::studies::ablation_window()
}
