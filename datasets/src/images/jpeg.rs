//! Detects truncated JPEG files. Decoders fill missing parts with gray, without an error.
//!
//! Format: ITU-T T.81, annex B. Markers are a byte 0xff and another; segments after most of them
//! start with their length; after the start of a scan come its data, in which 0xff is followed by a
//! zero.

/// Start of the image.
const SOI: u8 = 0xd8;
/// End of the image.
const EOI: u8 = 0xd9;

/// Whether the bytes are a truncated JPEG file.
pub(super) fn is_cut(file: &[u8]) -> bool {
    file.starts_with(&[0xff, SOI]) && !has_end(file)
}

/// Whether there is an end marker of the image itself, not of a thumbnail in a segment.
fn has_end(file: &[u8]) -> bool {
    let mut offset = 2;
    loop {
        // Skips to the next marker; the bytes before it are scan data, or empty.
        let Some(found) = file[offset..].windows(2).position(is_marker) else {
            return false;
        };
        let marker = file[offset + found + 1];
        offset += found + 2;
        if marker == EOI {
            return true;
        }
        // Restart markers in a scan, and the start of another image, have no segment.
        if matches!(marker, 0x01 | 0xd0..=SOI) {
            continue;
        }
        let Some(&[high, low]) = file[offset..].first_chunk() else {
            return false;
        };
        offset += usize::from(u16::from_be_bytes([high, low]));
        if offset > file.len() {
            return false;
        }
    }
}

fn is_marker(bytes: &[u8]) -> bool {
    bytes[0] == 0xff && !matches!(bytes[1], 0 | 0xff)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHOLE: &[u8] = include_bytes!("../../tests/data/files/whole.jpg");

    #[test]
    fn every_cut_is_found() {
        assert!(!is_cut(WHOLE));
        for len in 2..WHOLE.len() {
            assert!(is_cut(&WHOLE[..len]), "{len} of {}", WHOLE.len());
        }
        assert!(is_cut(include_bytes!("../../tests/data/files/cut.jpg")));
        // A stopped download in a file of its full length, and one with trailing bytes.
        let filled = [&WHOLE[..WHOLE.len() / 2], &[0; 2_000]].concat();
        assert!(is_cut(&filled));
        assert!(!is_cut(&[WHOLE, b"more"].concat()));
        assert!(!is_cut(b"GIF89a"));
    }

    #[test]
    fn end_of_a_thumbnail_is_not_that_of_the_image() {
        let thumbnail = [0xff, SOI, 0xff, 0xe1, 0, 6, 0xff, SOI, 0xff, EOI];
        assert!(is_cut(&thumbnail));
        assert!(!is_cut(&[&thumbnail[..], &[0xff, EOI]].concat()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            is_cut(&[&[0xff, SOI], &bytes[..]].concat());
        }
    }
}
