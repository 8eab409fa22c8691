//! The header of numpy's array files.
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>. The header is
//! the text of a Python dictionary:
//! `{'descr': '|u1', 'fortran_order': False, 'shape': (10, 12288), }`.

const MAGIC: &[u8] = b"\x93NUMPY";

/// The header of an array of bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ByteArray {
    /// Its shape.
    pub(super) shape: Vec<usize>,
    /// Offset of its elements in the file, in C order.
    pub(super) offset: usize,
}

impl ByteArray {
    /// Parses the header of a file, and checks that its elements are unsigned bytes in C order
    /// and complete. On failure, returns a description of the problem.
    pub(super) fn parse(file: &[u8]) -> Result<Self, String> {
        let (header, offset) = header(file).ok_or("it has no header of a numpy array")?;
        let value = |key: &str| {
            let (_, after) = header.split_once(&format!("'{key}':"))?;
            Some(after.trim_start())
        };
        let incomplete = || format!("its header is {header:?}");
        let descr = value("descr").ok_or_else(incomplete)?;
        if !["'|u1'", "'u1'", "'<u1'", "'>u1'"]
            .iter()
            .any(|u1| descr.starts_with(u1))
        {
            let kind = descr.split(',').next().unwrap_or(descr);
            return Err(format!("its elements are {kind}, not '|u1'"));
        }
        if !value("fortran_order")
            .ok_or_else(incomplete)?
            .starts_with("False")
        {
            return Err("it is in Fortran order".to_owned());
        }
        let shape = value("shape").and_then(shape).ok_or_else(incomplete)?;
        let n_elements = shape
            .iter()
            .try_fold(1, |n: usize, &dim| n.checked_mul(dim));
        let n_bytes = file.len() - offset;
        if n_elements.is_none_or(|n| n > n_bytes) {
            return Err(format!(
                "shape {shape:?} needs more than its {n_bytes} bytes"
            ));
        }
        Ok(Self { shape, offset })
    }
}

/// The text of the header, and its end.
fn header(file: &[u8]) -> Option<(&str, usize)> {
    let (version, rest) = file.strip_prefix(MAGIC)?.split_first_chunk::<2>()?;
    let (length, rest) = match version[0] {
        1 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        _ => {
            let (length, rest) = rest.split_first_chunk()?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
    };
    let header = std::str::from_utf8(rest.get(..length)?).ok()?;
    Some((header, file.len() - rest.len() + length))
}

/// The dimensions in `(10, 12288), ...`.
fn shape(text: &str) -> Option<Vec<usize>> {
    let (dims, _) = text.strip_prefix('(')?.split_once(')')?;
    dims.split(',')
        .map(str::trim)
        .filter(|dim| !dim.is_empty())
        .map(|dim| dim.parse().ok())
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A file as `numpy.save` writes it: version 1, the header padded to a multiple of 64.
    pub(in crate::images) fn npy(descr: &str, shape: &str, elements: &[u8]) -> Vec<u8> {
        let mut header =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        while (header.len() + 11) % 64 != 0 {
            header.push(' ');
        }
        header.push('\n');
        let length = (header.len() as u16).to_le_bytes();
        [MAGIC, &[1, 0], &length, header.as_bytes(), elements].concat()
    }

    #[test]
    fn headers_of_numpy_are_read() {
        let array = |file: &[u8]| ByteArray::parse(file).map(|array| (array.shape, array.offset));
        let pair = npy("|u1", "(2, 3)", &[0; 6]);
        assert_eq!(array(&pair), Ok((vec![2, 3], 128)));
        assert_eq!(array(&npy("|u1", "(5,)", &[0; 5])), Ok((vec![5], 128)));
        assert_eq!(array(&npy("|u1", "(0, 9)", b"")), Ok((vec![0, 9], 128)));
        // Version 2 differs in the width of the length field.
        let mut second = pair;
        second[6] = 2;
        second.splice(10..10, [0, 0]);
        assert_eq!(array(&second), Ok((vec![2, 3], 130)));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let error = |file: &[u8]| ByteArray::parse(file).expect_err("something is wrong");
        assert_eq!(error(b"PK"), "it has no header of a numpy array");
        assert_eq!(
            error(&npy("<f4", "(2, 3)", &[0; 24])),
            "its elements are '<f4', not '|u1'"
        );
        assert_eq!(
            error(&npy("|u1", "(2, 3)", &[0; 5])),
            "shape [2, 3] needs more than its 5 bytes"
        );
        let huge = format!("({0}, {0})", usize::MAX);
        assert!(error(&npy("|u1", &huge, &[0; 5])).starts_with("shape ["));
        let fortran = String::from_utf8_lossy(&npy("|u1", "(1, 1)", b"x"))
            .replace("False", "True ")
            .into_bytes();
        // The magic is not UTF-8, so it is put back.
        let fortran = [MAGIC, &fortran["\u{fffd}NUMPY".len()..]].concat();
        assert_eq!(error(&fortran), "it is in Fortran order");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            start in prop::sample::select(vec![&b""[..], MAGIC, b"\x93NUMPY\x01\x00\x20\x00"]),
            rest in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = ByteArray::parse(&[start, &rest].concat());
        }
    }
}
