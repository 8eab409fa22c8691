//! Checks the resource usage of a pickle before it is read.
//!
//! A pickle is a program. One of 600 bytes can describe a value of gigabytes (each line puts the
//! previous one twice into a list), one of 400 kB can nest deeper than a stack. The reader copies
//! values that are referred to, so copies are counted here without being made.

use std::collections::HashMap;

/// Maximum number of values that a reader may hold or copy. A checkpoint needs about 200 per tensor.
const MAX_WORK: u64 = 1_000_000;
/// Maximum nesting depth of values. A checkpoint has about 5.
const MAX_DEPTH: u32 = 100;
/// Maximum number of items added at a time. Python writes 1,000.
const MAX_BATCH: usize = 10_000;
/// Number of bytes that count as one value.
const BYTES_OF_VALUE: u64 = 64;
/// Upper bound of integers that are not sizes, such as versions.
const SMALL: u64 = 1 << 16;

/// Size and depth of a value.
#[derive(Debug, Clone, Copy)]
struct Value {
    size: u64,
    depth: u32,
}

const PLAIN: Value = Value { size: 1, depth: 1 };

/// The stack of a pickle, with sizes instead of values.
#[derive(Debug, Default)]
pub(super) struct Machine {
    stack: Vec<Value>,
    /// Heights of the stack at its marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    work: u64,
    /// Largest integer allowed as a size in this file.
    largest: u64,
}

impl Machine {
    /// Executes a pickle from a file of `length` bytes; afterwards `bytes` start after its end.
    pub(super) fn run(bytes: &mut &[u8], length: u64) -> Result<(), String> {
        if bytes.first() == Some(&0x80) {
            take::<2>(bytes)?;
        }
        let mut machine = Self {
            largest: length.max(SMALL),
            ..Self::default()
        };
        while machine.step(bytes)? {}
        Ok(())
    }

    /// Executes an instruction; returns false after the last one.
    fn step(&mut self, bytes: &mut &[u8]) -> Result<bool, String> {
        let code = take::<1>(bytes)?[0];
        match code {
            b'.' => return Ok(false),
            // Plain values.
            b'N' | b')' | b']' | b'}' | 0x88 | 0x89 => self.push(PLAIN)?,
            b'G' => {
                take::<8>(bytes)?;
                self.push(PLAIN)?;
            }
            b'K' => self.push_integer(i64::from(u8::from_le_bytes(take(bytes)?)))?,
            b'M' => self.push_integer(i64::from(u16::from_le_bytes(take(bytes)?)))?,
            b'J' => self.push_integer(i64::from(i32::from_le_bytes(take(bytes)?)))?,
            0x8a => {
                let length = usize::from(take::<1>(bytes)?[0]);
                let digits = take_slice(bytes, length)?;
                let mut whole = [0; 8];
                let part = whole
                    .get_mut(..length)
                    .ok_or("its pickle has an integer of more than 64 bits")?;
                part.copy_from_slice(digits);
                // If the sign bit is set, the integer is negative or too large for a size.
                let is_negative = digits.last().is_some_and(|last| *last >= 0x80);
                self.push_integer(if is_negative {
                    -1
                } else {
                    i64::from_le_bytes(whole)
                })?;
            }
            b'I' => {
                let line = take_line(bytes)?;
                let number = str::from_utf8(line)
                    .ok()
                    .and_then(|line| line.trim().parse().ok());
                self.push_integer(number.unwrap_or(-1))?;
            }
            // Strings.
            b'U' => {
                let length = take::<1>(bytes)?[0];
                self.push_bytes(bytes, usize::from(length))?;
            }
            b'X' => {
                let length = u32::from_le_bytes(take(bytes)?);
                self.push_bytes(bytes, length as usize)?;
            }
            b'c' => {
                let length = take_line(bytes)?.len() + take_line(bytes)?.len();
                self.push(text_of(length))?;
            }
            // Instructions that refer to values, or copy them.
            b'q' => {
                let number = u32::from(take::<1>(bytes)?[0]);
                self.remember(number)?;
            }
            b'r' => {
                let number = u32::from_le_bytes(take(bytes)?);
                self.remember(number)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let number = u32::from(take::<1>(bytes)?[0]);
                self.recall(number)?;
            }
            b'j' => {
                let number = u32::from_le_bytes(take(bytes)?);
                self.recall(number)?;
            }
            // Instructions that put values into others.
            b'(' => self.marks.push(self.stack.len()),
            b't' | b'l' | b'd' => {
                let n_items = self.above_mark()?;
                self.join(n_items)?;
            }
            b'e' | b'u' => {
                let n_items = self.above_mark()?;
                self.add(n_items)?;
            }
            b'a' => self.add(1)?,
            b's' => self.add(2)?,
            0x85 | b'Q' => self.join(1)?,
            0x86 | 0x81 => self.join(2)?,
            0x87 => self.join(3)?,
            // These copy their arguments, a few times.
            b'R' | b'b' => {
                self.join(2)?;
                let size = self.top()?.size;
                self.spend(4 * size)?;
            }
            other => {
                return Err(format!(
                    "its pickle has an instruction {other:#04x}, which no weights need"
                ));
            }
        }
        Ok(true)
    }

    fn spend(&mut self, work: u64) -> Result<(), String> {
        self.work = self.work.saturating_add(work);
        match self.work > MAX_WORK {
            true => Err(format!("its pickle describes more than {MAX_WORK} values")),
            false => Ok(()),
        }
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        self.spend(value.size)?;
        if value.depth > MAX_DEPTH {
            return Err(format!("its pickle nests values deeper than {MAX_DEPTH}"));
        }
        self.stack.push(value);
        Ok(())
    }

    fn push_integer(&mut self, number: i64) -> Result<(), String> {
        let largest = self.largest;
        match u64::try_from(number) {
            Ok(number) if number <= largest => self.push(PLAIN),
            _ => Err(format!(
                "its pickle has an integer that is not a size (0 to {largest})"
            )),
        }
    }

    fn push_bytes(&mut self, bytes: &mut &[u8], length: usize) -> Result<(), String> {
        take_slice(bytes, length)?;
        self.push(text_of(length))
    }

    /// Pops the last value, which must be above the last mark.
    fn pop(&mut self) -> Result<Value, String> {
        let value = self.top()?;
        self.stack.pop();
        Ok(value)
    }

    fn top(&self) -> Result<Value, String> {
        let mark = self.marks.last().copied().unwrap_or(0);
        let top = self.stack.get(mark..).and_then(<[Value]>::last).copied();
        top.ok_or_else(|| "its pickle takes a value where there is none".to_owned())
    }

    /// Number of values above the last mark, which is removed.
    fn above_mark(&mut self) -> Result<usize, String> {
        let mark = self.marks.pop();
        let mark = mark.ok_or_else(|| "its pickle has no mark where one is needed".to_owned())?;
        let n_items = self.stack.len().saturating_sub(mark);
        match n_items > MAX_BATCH {
            true => Err(format!(
                "its pickle adds {n_items} values at a time, of at most {MAX_BATCH}"
            )),
            false => Ok(n_items),
        }
    }

    /// Combines the last values into one, which is one level deeper.
    fn join(&mut self, n_items: usize) -> Result<(), String> {
        let mut whole = PLAIN;
        for _ in 0..n_items {
            let item = self.pop()?;
            whole.size = whole.size.saturating_add(item.size);
            whole.depth = whole.depth.max(item.depth + 1);
        }
        self.replace(whole)
    }

    /// Adds the last values to the one before them.
    fn add(&mut self, n_items: usize) -> Result<(), String> {
        self.join(n_items)?;
        let [items, whole] = [self.pop()?, self.pop()?];
        self.replace(Value {
            size: whole.size.saturating_add(items.size),
            depth: whole.depth.max(items.depth),
        })
    }

    /// Pushes a value built from popped values, whose size was already counted.
    fn replace(&mut self, value: Value) -> Result<(), String> {
        self.work = self.work.saturating_sub(value.size);
        self.push(value)
    }

    fn remember(&mut self, number: u32) -> Result<(), String> {
        let top = self.top()?;
        self.spend(top.size)?;
        self.memo.insert(number, top);
        Ok(())
    }

    fn recall(&mut self, number: u32) -> Result<(), String> {
        let value = self.memo.get(&number).copied();
        let value = value
            .ok_or_else(|| format!("its pickle refers to a value {number} that is not there"))?;
        self.push(value)
    }
}

fn ends_early() -> String {
    "its pickle ends early".to_owned()
}

/// A string of `length` bytes.
fn text_of(length: usize) -> Value {
    Value {
        size: 1 + length as u64 / BYTES_OF_VALUE,
        depth: 1,
    }
}

fn take_slice<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let (first, rest) = bytes.split_at_checked(length).ok_or_else(ends_early)?;
    *bytes = rest;
    Ok(first)
}

fn take_line<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    take_slice(bytes, end.ok_or_else(ends_early)? + 1)
}

/// Takes the next bytes.
fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], String> {
    let (first, rest) = bytes.split_first_chunk::<N>().ok_or_else(ends_early)?;
    *bytes = rest;
    Ok(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pickle: &[u8]) -> Result<(), String> {
        Machine::run(&mut &*pickle, 1000)
    }

    #[test]
    fn lists_of_lists_that_double_are_refused() {
        let mut bomb = vec![0x80, 2, b']', b'q', 0];
        for level in 0..60 {
            bomb.extend([b']', b'(', b'h', level, b'h', level, b'e', b'q', level + 1]);
        }
        bomb.push(b'.');
        assert!(run(&bomb).unwrap_err().contains("more than 1000000 values"));
    }

    #[test]
    fn deep_nesting_is_refused() {
        let mut deep = vec![b']'; 1000];
        deep.extend([b'a'; 999]);
        deep.push(b'.');
        assert!(run(&deep).unwrap_err().contains("deeper than 100"));
    }

    #[test]
    fn copies_of_a_growing_list_are_counted() {
        let mut growing = vec![b']'];
        for number in 0..10_000u32 {
            growing.extend([b'N', b'a', b'r']);
            growing.extend(number.to_le_bytes());
        }
        growing.push(b'.');
        assert!(
            run(&growing)
                .unwrap_err()
                .contains("more than 1000000 values")
        );
    }

    #[test]
    fn what_ends_early_or_takes_from_nothing_is_refused() {
        for pickle in [
            &b""[..],
            b"]",
            b"X\xff\xff\xff\xffab.",
            b"a.",
            b"e.",
            b"h\x07.",
            b"ctorch",
        ] {
            run(pickle).unwrap_err();
        }
    }

    #[test]
    fn integers_are_sizes_of_the_file() {
        run(b"M\xff\xff.").unwrap();
        run(b"J\x00\x00\x01\x00.").unwrap();
        for pickle in [
            &b"J\x01\x00\x01\x00."[..],
            b"J\xff\xff\xff\xff.",
            b"I99999999\n.",
            b"I-3\n.",
            b"\x8a\x09\x01\x00\x00\x00\x00\x00\x00\x00\x00.",
            b"\x8a\x04\x00\x00\x00\x10.",
        ] {
            let error = run(pickle).unwrap_err();
            assert!(error.contains("integer"), "{error}");
        }
    }

    #[test]
    fn values_below_a_mark_are_not_taken() {
        assert!(run(b"](\x85.").unwrap_err().contains("where there is none"));
    }

    #[test]
    fn numbers_in_a_dictionary_are_no_matter() {
        run(b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00bM\x01\x02u.").unwrap();
    }
}
