//! See `experiments::programs::studies::table2`.

fn main() -> std::process::ExitCode {
    experiments::programs::studies::table2::main()
}
