//! How programs use trained models on texts: their flags, progress bars and files. The models themselves are in
//! [`reformer_train::inference`].

pub mod inspection;
pub mod prediction;
pub mod scores;
pub mod shipped;
pub mod translation;
