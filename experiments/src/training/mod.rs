//! What training programs share: flags, data, and the way from them to a trained model.

#[cfg(not(test))]
pub(crate) mod announcement;
#[cfg(not(test))]
mod configuration;
pub(crate) mod kind;
pub(crate) mod labelled;
pub(crate) mod long_range;
#[cfg(not(test))]
pub(crate) mod program;
pub(crate) mod text;
pub(crate) mod tokenizing;

#[cfg(not(test))]
pub(crate) use configuration::TrainArguments;
#[cfg(not(test))]
pub(crate) use program::{TrainingProgram, train};
