//! Bytes that may be larger than the memory: files, pipes, unpacked contents, temporary files.

mod bytes;
mod decompress;
mod files;
mod fingerprint;
mod pipe;
mod text;
mod walk;

pub(crate) use bytes::{Bytes, Spool};
pub(crate) use decompress::{unpack, unpack_error, unpacked};
pub(crate) use files::read_file;
pub use fingerprint::Fingerprint;
pub use text::read_text_file;
pub(crate) use text::{as_str, read_text, without_mark, without_marks};
pub(crate) use walk::walk;
