//! The programs, each as `main` of a module. They are part of the library so that what they share,
//! training on every backend above all, is compiled once and not for each of them.

use std::process::ExitCode;

/// A program of this crate.
#[derive(Debug)]
pub struct Program {
    /// Words after `reformer` that call it.
    pub words: &'static str,
    /// Name of its own binary; a study, which has none, has that of its results here.
    pub name: &'static str,
    about: &'static str,
    main: fn() -> ExitCode,
    /// Its flags.
    flags: fn() -> clap::Command,
}

/// A list of programs: the words that call each, its name, one line about it, its `main`, and its flags.
macro_rules! programs {
    ($($words:literal, $name:literal, $about:literal, $main:path, $flags:ty;)*) => {
        &[$($crate::programs::Program {
            words: $words,
            name: $name,
            about: $about,
            main: $main,
            flags: <$flags as clap::CommandFactory>::command,
        }),*]
    };
}

pub mod answer;
pub mod bench_generation;
pub mod bench_step;
pub mod classify;
mod compare;
mod convert;
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
