//! What training programs share: flags, data, and the way from them to a trained model.

#[cfg(not(test))]
pub(crate) mod announcement;
#[cfg(not(test))]
mod configuration;
pub mod labelled;
pub mod long_range;
#[cfg(not(test))]
pub mod program;
pub mod text;
pub mod tokenizing;

#[cfg(not(test))]
pub use configuration::TrainArguments;
#[cfg(not(test))]
pub use program::{Program, train};
