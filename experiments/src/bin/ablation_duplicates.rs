//! See `experiments::programs::studies::ablation_duplicates`.

fn main() -> std::process::ExitCode {
    experiments::programs::studies::ablation_duplicates()
}
