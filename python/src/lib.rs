//! The Python module `reformer_burn`: inference with trained models, and LSH attention with gradients, on numpy
//! arrays. Everything runs on the CPU, with Burn's backend flex.
//!
//! `reformer_burn.pyi` declares its types. Arguments are checked here, before a tensor is made: where a crate
//! below would panic, Python gets an exception.

mod arrays;
mod attention;
mod errors;
mod json;
mod model;
mod prompt;

/// The Reformer in Rust: inference with trained models, and LSH attention with gradients, on numpy arrays.
#[pyo3::pymodule]
mod reformer_burn {
    #[pymodule_export]
    use super::attention::Attention;
    #[pymodule_export]
    use super::model::{LanguageModel, load};

    #[pymodule_export]
    #[allow(non_upper_case_globals)] // The name that Python's packages have for it.
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
