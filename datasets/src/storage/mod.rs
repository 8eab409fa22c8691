//! Bytes that may be larger than the memory: mapped files, decompression, and what is put down on disk.

mod bytes;
mod decompress;
mod files;

pub(crate) use bytes::{Bytes, Spool};
pub(crate) use decompress::{decompressed, utf8};
pub(crate) use files::{map_file, open_file, walk};
