//! See `experiments::programs::studies::ablation_rotations`.

fn main() -> std::process::ExitCode {
    experiments::programs::studies::ablation_rotations()
}
