//! The laws of kernels as one suite, over a backend and the backend whose reference judges it.
//!
//! A new backend gets all of them by implementing [`Subject`] and one line:
//! `kernel_laws!(name: crate::MySubject);`

pub(crate) mod attended;
pub(crate) mod attention;
pub(crate) mod half;
pub(crate) mod hashing;
pub(crate) mod layers;
pub(crate) mod tokens;

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;

use burn::tensor::backend::Backend;
use burn::tensor::{BasicOps, DType, Tensor};
use reformer_core::kernels::ReformerBackend;

/// What is tested, and by whom it is judged.
pub(crate) trait Subject {
    /// The backend whose kernels are tested.
    type Backend: ReformerBackend;
    /// The backend whose reference tells what is right. It may be the same.
    type Judge: ReformerBackend;
    /// Relative error of attention in single precision.
    const TOLERANCE: f64;
    /// Whether it takes a second to compile a kernel for a combination of rules, so that some of
    /// the combinations must do.
    const THINNED: bool = false;

    /// Takes the device for a test. `None`, aloud, if there is none.
    fn take() -> Option<impl Sized>;

    /// The same tensor on the judge.
    fn judged<K, const D: usize>(tensor: Tensor<Self::Backend, D, K>) -> Tensor<Self::Judge, D, K>
    where
        K: BasicOps<Self::Backend> + BasicOps<Self::Judge>,
    {
        moved(tensor)
    }

    /// A tensor of any precision on the judge, in single precision.
    fn wide<const D: usize>(tensor: Tensor<Self::Backend, D>) -> Tensor<Self::Judge, D> {
        moved(tensor.cast(DType::F32))
    }

    /// The half-precision types that the backend has, aloud about the others.
    fn halves() -> Vec<DType> {
        let served = |dtype: &DType| {
            let served = Self::Backend::supports_dtype(&Default::default(), *dtype);
            if !served {
                let name = Self::Backend::name(&Default::default());
                say_once(&format!("SKIPPED: {name} has no {dtype:?}"));
            }
            served
        };
        let types = [DType::F16, DType::BF16];
        types.into_iter().filter(served).collect()
    }
}

/// The same tensor on another backend, in that backend's default type.
pub(crate) fn moved<A, B, K, const D: usize>(tensor: Tensor<A, D, K>) -> Tensor<B, D, K>
where
    A: Backend,
    B: Backend,
    K: BasicOps<A> + BasicOps<B>,
{
    Tensor::from_data(tensor.into_data(), &Default::default())
}

/// Writes a line that the test harness does not keep to itself.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The same, whatever the number of tests that would say it.
fn say_once(line: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SAID.lock().unwrap().insert(line.to_owned()) {
        say(line);
    }
}

/// A test of each law for a subject.
macro_rules! laws_of {
    ($subject:ty; $($area:ident: $($law:ident)*;)*) => {
        $(mod $area {
            $(#[test]
            fn $law() {
                if let Some(_device) = <$subject as $crate::suite::Subject>::take() {
                    $crate::suite::$area::$law::<$subject>();
                }
            })*
        })*
    };
}

/// A module with a test of every law for a subject, which is given by its path from the crate's
/// root.
macro_rules! kernel_laws {
    ($name:ident: $subject:ty) => {
        mod $name {
            $crate::suite::laws_of! { $subject;
                attention:
                    tiled_is_the_reference_by_every_rule
                    tiled_is_the_reference_at_real_sizes
                    wrapped_rounds_are_the_reference
                    natural_order_is_the_reference
                    full_is_the_reference
                    other_sequences_are_the_reference
                    full_dropout_is_numbered_by_slices
                    gradients_are_the_same_bits_every_time
                    gradients_are_the_same_bits_without_what_forward_prepares
                    bad_shapes_are_refused_by_name;
                half:
                    tiles_of_half_precision_are_near
                    padding_of_half_precision_is_near
                    full_half_precision_is_near;
                hashing:
                    sorting_is_the_reference
                    hashing_whole_numbers_is_the_reference
                    hashing_follows_the_largest_projection
                    dropout_draws_the_same_bits;
                layers:
                    normalisation_is_the_reference
                    activations_are_the_reference
                    gradients_of_biases_are_sums
                    gradients_of_biases_are_sums_of_segments
                    gradients_of_weights_are_sums_of_parts
                    linear_layers_of_half_precision_have_wide_parameters
                    residuals_are_the_reference;
                tokens:
                    losses_are_the_reference
                    rotations_are_the_reference
                    gradients_of_embeddings_are_the_reference;
            }
        }
    };
}

pub(crate) use {kernel_laws, laws_of};
