//! The tensors declared in a MessagePack file, found without allocating them.
//!
//! A record determines sizes and types while it is read, and contradictions in it lead to
//! a panic or to unbounded memory. So a file is scanned once before.

use std::io::{self, BufReader, Read, Seek};

use rmp::Marker;
use rmp::decode::read_marker;

/// Maximum nesting depth of values. A record has about 15.
const MAX_DEPTH: usize = 64;
/// Maximum length of a name in bytes. The longest one of a record has about 40.
const MAX_NAME: u64 = 4096;
/// Maximum rank of a tensor.
const MAX_RANK: usize = 8;

/// A tensor in a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tensor {
    /// Names and indices on the way to it, joined by points. A parameter's tensor has the parameter's path.
    pub(super) path: String,
    /// For a parameter: the ID by which optimizers know it.
    pub(super) id: Option<String>,
    pub(super) shape: Vec<u64>,
    /// Name of its element type.
    pub(super) dtype: String,
    /// Bytes of its elements.
    pub(super) n_bytes: u64,
}

/// The content of a record.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(super) tensors: Vec<Tensor>,
    /// Paths at which an optimizer's state gives its rank, with tensors or without.
    pub(super) ranks: Vec<String>,
}

/// Scans the record at the start of a file, of `length` bytes.
pub(super) fn scan(file: impl Read + Seek, length: u64) -> io::Result<Found> {
    let mut scanner = Scanner {
        reader: BufReader::new(file),
        length,
        path: String::new(),
        found: Found::default(),
    };
    scanner.value(0)?;
    Ok(scanner.found)
}

struct Scanner<R> {
    reader: BufReader<R>,
    length: u64,
    path: String,
    found: Found,
}

/// The kind of a value, as far as the enclosing value needs it.
#[derive(Debug)]
enum Value {
    Integer(u64),
    Text(String),
    Bytes(u64),
    Integers(Vec<u64>),
    Other,
}

fn wrong(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

impl<R: Read + Seek> Scanner<R> {
    fn value(&mut self, depth: usize) -> io::Result<Value> {
        if depth > MAX_DEPTH {
            return Err(wrong(format!("it nests values deeper than {MAX_DEPTH}")));
        }
        let marker = read_marker(&mut self.reader).map_err(|error| error.0)?;
        match marker {
            Marker::FixPos(number) => Ok(Value::Integer(number.into())),
            Marker::U8 => self.integer::<1>(),
            Marker::U16 => self.integer::<2>(),
            Marker::U32 => self.integer::<4>(),
            Marker::U64 => self.integer::<8>(),
            Marker::Null | Marker::True | Marker::False | Marker::FixNeg(_) => Ok(Value::Other),
            Marker::I8 => self.skip(1),
            Marker::I16 => self.skip(2),
            Marker::I32 | Marker::F32 => self.skip(4),
            Marker::I64 | Marker::F64 => self.skip(8),
            Marker::FixStr(length) => self.text(length.into()),
            Marker::Str8 => self.length::<1>().and_then(|length| self.text(length)),
            Marker::Str16 => self.length::<2>().and_then(|length| self.text(length)),
            Marker::Str32 => self.length::<4>().and_then(|length| self.text(length)),
            Marker::Bin8 => self.length::<1>().and_then(|length| self.bytes(length)),
            Marker::Bin16 => self.length::<2>().and_then(|length| self.bytes(length)),
            Marker::Bin32 => self.length::<4>().and_then(|length| self.bytes(length)),
            Marker::FixArray(n) => self.array(n.into(), depth),
            Marker::Array16 => self.length::<2>().and_then(|n| self.array(n, depth)),
            Marker::Array32 => self.length::<4>().and_then(|n| self.array(n, depth)),
            Marker::FixMap(n) => self.map(n.into(), depth),
            Marker::Map16 => self.length::<2>().and_then(|n| self.map(n, depth)),
            Marker::Map32 => self.length::<4>().and_then(|n| self.map(n, depth)),
            other => Err(wrong(format!("it has a value of the kind {other:?}"))),
        }
    }

    fn length<const N: usize>(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.reader.read_exact(&mut bytes[8 - N..])?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn integer<const N: usize>(&mut self) -> io::Result<Value> {
        self.length::<N>().map(Value::Integer)
    }

    fn skip(&mut self, n_bytes: u64) -> io::Result<Value> {
        let left = self.length.saturating_sub(self.reader.stream_position()?);
        if n_bytes > left {
            return Err(wrong(format!(
                "{n_bytes} bytes are promised where {left} are left"
            )));
        }
        self.reader.seek_relative(n_bytes as i64)?;
        Ok(Value::Other)
    }

    fn bytes(&mut self, n_bytes: u64) -> io::Result<Value> {
        self.skip(n_bytes)?;
        Ok(Value::Bytes(n_bytes))
    }

    fn text(&mut self, n_bytes: u64) -> io::Result<Value> {
        if n_bytes > MAX_NAME {
            return Err(wrong(format!("it has a name of {n_bytes} bytes")));
        }
        let mut text = vec![0; n_bytes as usize];
        self.reader.read_exact(&mut text)?;
        let text = String::from_utf8(text).map_err(|_| wrong("it has a name that is not UTF-8"))?;
        Ok(Value::Text(text))
    }

    /// Scans a value inside this one.
    fn inside(&mut self, name: &str, depth: usize) -> io::Result<Value> {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        let value = self.value(depth + 1)?;
        self.path.truncate(length);
        Ok(value)
    }

    fn array(&mut self, n: u64, depth: usize) -> io::Result<Value> {
        let mut integers = Some(Vec::new());
        for number in 0..n {
            let value = self.inside(&number.to_string(), depth)?;
            match (&mut integers, value) {
                (Some(all), Value::Integer(integer)) if all.len() < MAX_RANK => all.push(integer),
                _ => integers = None,
            }
        }
        Ok(integers.map_or(Value::Other, Value::Integers))
    }

    fn map(&mut self, n: u64, depth: usize) -> io::Result<Value> {
        let (mut id, mut shape, mut dtype, mut bytes) = (None, None, None, None);
        for _ in 0..n {
            let Value::Text(name) = self.value(depth + 1)? else {
                return Err(wrong("it has a name that is not a string"));
            };
            if name.starts_with("Rank") {
                self.found.ranks.push(format!("{}.{name}", self.path));
            }
            let value = self.inside(&name, depth)?;
            match (name.as_str(), value) {
                ("id", Value::Text(text)) => id = Some(text),
                ("shape", Value::Integers(all)) => shape = Some(all),
                ("dtype", Value::Text(text)) => dtype = Some(text),
                ("bytes", Value::Bytes(n_bytes)) => bytes = Some(n_bytes),
                _ => {}
            }
        }
        if let (Some(shape), Some(n_bytes)) = (shape, bytes) {
            self.found.tensors.push(Tensor {
                path: self.path.clone(),
                id: None,
                shape,
                dtype: dtype.unwrap_or_default(),
                n_bytes,
            });
        }
        // A parameter is a map of its ID and its tensor.
        let inner = format!("{}.param", self.path);
        if let (Some(id), Some(tensor)) = (id, self.found.tensors.last_mut())
            && tensor.path == inner
        {
            tensor.id = Some(id);
            tensor.path.clone_from(&self.path);
        }
        Ok(Value::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn scanned(bytes: &[u8]) -> io::Result<Found> {
        scan(Cursor::new(bytes), bytes.len() as u64)
    }

    #[test]
    fn sizes_beyond_the_file_are_refused_at_once() {
        // A map, an array, bytes, a text and an extension of 2^32 - 1.
        for marker in [0xdf, 0xdd, 0xc6, 0xdb, 0xc9] {
            scanned(&[marker, 255, 255, 255, 255, 1, 2, 3]).unwrap_err();
        }
    }

    #[test]
    fn endless_nesting_is_refused() {
        let error = scanned(&[0x91; 10_000]).unwrap_err();
        assert!(error.to_string().contains("deeper than 64"), "{error}");
    }
}
