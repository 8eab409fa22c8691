//! See `experiments::programs::studies::ablation_across_buckets`.

fn main() -> std::process::ExitCode {
    experiments::programs::studies::ablation_across_buckets()
}
