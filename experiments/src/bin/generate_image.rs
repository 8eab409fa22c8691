//! See `experiments::programs::generate_image`.

fn main() -> std::process::ExitCode {
    experiments::programs::generate_image::main()
}
