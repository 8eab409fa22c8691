//! The programs, each as `main` of a module. They are part of the library so that what they share,
//! training on every backend above all, is compiled once and not for each of them.

pub mod answer;
pub mod bench_generation;
pub mod bench_memory;
pub mod bench_step;
pub mod classify;
pub mod compare;
pub mod convert;
pub mod evaluate;
pub mod generate_image;
pub mod generate_text;
pub mod inspect;
pub mod plot_steps;
pub mod reformer;
pub mod studies;
pub mod train_classifier;
pub mod train_duplication;
pub mod train_images;
pub mod train_masked;
pub mod train_qa;
pub mod train_recall;
pub mod train_text;
pub mod train_translation;
pub mod translate;
