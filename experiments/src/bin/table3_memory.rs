//! See `experiments::programs::studies::table3`.

fn main() -> std::process::ExitCode {
    experiments::programs::studies::table3::main()
}
