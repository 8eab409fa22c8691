//! See `experiments::programs::studies::table1`.

fn main() -> std::process::ExitCode {
    experiments::programs::studies::table1::main()
}
