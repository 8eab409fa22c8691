//! See `experiments::programs::studies::table4`.

fn main() -> std::process::ExitCode {
    experiments::programs::studies::table4::main()
}
