//! Trained models that take and give text.

pub mod codec;
pub mod hugging_face;
pub mod inspection;
pub mod masked;
pub mod prediction;
pub(crate) mod request;
pub mod scores;
pub mod shipped;
pub mod text;
pub mod text_model;
pub mod translation;
