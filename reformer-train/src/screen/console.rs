//! Text for terminals, without control characters.

use std::io::{self, Write};

pub use reformer_datasets::printable;

/// Writes a [printable] text and a line end to standard error. If that fails, the text is lost,
/// which is never a reason to stop.
pub fn tell(text: &str) {
    let line = format!("{}\n", printable(text));
    io::stderr().write_all(line.as_bytes()).ok();
}
