//! How programs use trained models on texts: their flags, progress bars and files. The models themselves are in
//! [`reformer_train::inference`].

pub(crate) mod inspection;
pub(crate) mod prediction;
pub(crate) mod scores;
pub(crate) mod shipped;
pub(crate) mod translation;
