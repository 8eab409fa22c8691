//! See `experiments::programs::studies::ablation_reversal`.

fn main() -> std::process::ExitCode {
    experiments::programs::studies::ablation_reversal()
}
