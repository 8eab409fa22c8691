//! See `experiments::programs::studies::ablation_logit_scale`.

fn main() -> std::process::ExitCode {
    experiments::programs::studies::ablation_logit_scale()
}
