//! Event files of TensorBoard.
//!
//! An event file is a sequence of records, each with its length and checksums of both. A record is an event, a message of
//! Protocol Buffers of which few fields are needed:
//! <https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto>.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc};

use crate::error::TrainError;
use crate::metrics::Quantity;
use crate::metrics::row::{Row, column};
use crate::record::append_line;
use crate::report::page::UNPLOTTED;

/// Start of a file's name, by which TensorBoard knows it. The time of its creation follows.
const PREFIX: &str = "events.out.tfevents.";
/// End of the name, by which we know our own.
const SUFFIX: &str = ".reformer";
/// The version of the format, in the first event.
const VERSION: &[u8] = b"brain.Event:2";

/// The rows of `metrics.csv` as scalars, in an event file in a run's folder.
#[derive(Debug)]
pub(crate) struct EventLog {
    path: PathBuf,
    file: File,
    /// When the training would have begun without pauses, in seconds since 1970.
    began: f64,
}

impl EventLog {
    /// Whether a run's folder has an event file.
    pub(crate) fn is_in(folder: &Path) -> bool {
        !files(folder).is_empty()
    }

    /// Begins a file with the rows so far, at which TensorBoard drops what it has read of earlier ones. The last of those
    /// stays: the slower of TensorBoard's two readers would never leave a file that is gone.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub(crate) fn create(folder: &Path, rows: &[Row]) -> Result<Self, TrainError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default();
        let mut earlier = files(folder);
        let last = earlier.pop_last().map(|(time, _)| time);
        // They are read in the order of their names.
        let time = last.map_or(0, |time| time.saturating_add(1));
        let name = format!("{PREFIX}{:010}{SUFFIX}", time.max(now.as_secs()));
        let path = folder.join(name);
        let seconds = rows.last().and_then(|row| row.get(Quantity::Seconds));
        let began = now.as_secs_f64() - seconds.unwrap_or(0.0);
        let first = [event(began, 0, &message(3, VERSION)), session_start(began)];
        let of_rows = rows.iter().map(|row| scalars(began, row));
        let events: Vec<u8> = first.into_iter().chain(of_rows).flatten().collect();
        let write = || -> io::Result<File> {
            earlier.values().try_for_each(fs::remove_file)?;
            let mut file = File::options().append(true).create_new(true).open(&path)?;
            file.write_all(&events)?;
            Ok(file)
        };
        match write() {
            Ok(file) => Ok(Self { path, file, began }),
            Err(source) => Err(TrainError::Write { path, source }),
        }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn add(&mut self, row: &Row) -> Result<(), TrainError> {
        append_line(&mut self.file, &scalars(self.began, row)).map_err(|source| TrainError::Write {
            path: self.path.clone(),
            source,
        })
    }
}

/// Our event files in a folder, by the time in their names.
fn files(folder: &Path) -> BTreeMap<u64, PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let ours = entries.filter_map(|entry| {
        let name = entry.file_name();
        let time = name.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        Some((time.parse().ok()?, entry.path()))
    });
    ours.collect()
}

/// The event at which TensorBoard drops what it has read of earlier files from step 0 on.
fn session_start(began: f64) -> Vec<u8> {
    const START: [u8; 2] = [1 << 3, 1];
    event(began, 0, &message(7, &START))
}

/// The event of a row: a value of each quantity, named like its column.
fn scalars(began: f64, row: &Row) -> Vec<u8> {
    let plotted = Quantity::ALL.into_iter();
    let plotted = plotted.filter(|quantity| !UNPLOTTED.contains(quantity));
    let scalar = |quantity| {
        let value = row.get(quantity).filter(|value| !value.is_nan())?;
        let name = format!("{}/{}", column(quantity), row.split);
        let value = (value as f32).to_le_bytes();
        let fields = [&message(1, name.as_bytes())[..], &[2 << 3 | 5], &value];
        Some(message(1, &fields.concat()))
    };
    let values: Vec<u8> = plotted.filter_map(scalar).flatten().collect();
    let seconds = row.get(Quantity::Seconds).unwrap_or(0.0);
    event(began + seconds, row.step, &message(5, &values))
}

/// A record of an event at a time, in seconds since 1970, with its content as a field.
fn event(time: f64, step: usize, content: &[u8]) -> Vec<u8> {
    let mut event = vec![1 << 3 | 1];
    event.extend(time.to_le_bytes());
    event.push(2 << 3);
    event.extend(varint(step as u64));
    event.extend(content);
    let length = (event.len() as u64).to_le_bytes();
    let sums = [&length[..], &event].map(masked);
    [&length[..], &sums[0], &event, &sums[1]].concat()
}

/// A field of text, bytes or a message.
fn message(number: u8, content: &[u8]) -> Vec<u8> {
    let length = varint(content.len() as u64);
    [&[number << 3 | 2][..], &length, content].concat()
}

/// A number by seven bits in a byte, the lowest first; the eighth bit tells that more follow.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// The checksum, changed as the format demands, since checksums of data that contain checksums are weak.
fn masked(bytes: &[u8]) -> [u8; 4] {
    const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
    let sum = CRC32C.checksum(bytes).rotate_right(15);
    sum.wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::row::tests::row;

    /// CRC-32C, bit by bit.
    fn checksum(bytes: &[u8]) -> u32 {
        let step = |sum: u32| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg());
        let byte = |sum: u32, byte: &u8| (0..8).fold(sum ^ u32::from(*byte), |sum, _| step(sum));
        !bytes.iter().fold(u32::MAX, byte)
    }

    /// The first bytes, and those after them.
    fn cut<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
        let (first, rest) = bytes.split_at(length);
        *bytes = rest;
        first
    }

    /// The events of a file, whose framing and checksums are right.
    fn events(mut file: &[u8]) -> Vec<&[u8]> {
        let sum_of = |bytes: &[u8]| {
            let sum = checksum(bytes);
            sum.rotate_right(15).wrapping_add(0xa282_ead8)
        };
        let mut events = Vec::new();
        while !file.is_empty() {
            let length = cut(&mut file, 8);
            assert_eq!(cut(&mut file, 4), sum_of(length).to_le_bytes());
            let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
            let event = cut(&mut file, length as usize);
            assert_eq!(cut(&mut file, 4), sum_of(event).to_le_bytes());
            events.push(event);
        }
        events
    }

    fn number(bytes: &mut &[u8]) -> usize {
        let mut number = 0;
        for shift in (0..).step_by(7) {
            let byte = usize::from(cut(bytes, 1)[0]);
            number |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return number;
            }
        }
        number
    }

    /// The fields of a message: numbers, and the bytes of everything else.
    fn fields(mut bytes: &[u8]) -> Vec<(usize, usize, &[u8])> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = number(&mut bytes);
            let (mut value, mut content) = (0, &[][..]);
            match key & 7 {
                0 => value = number(&mut bytes),
                1 => content = cut(&mut bytes, 8),
                2 => {
                    let length = number(&mut bytes);
                    content = cut(&mut bytes, length);
                }
                5 => content = cut(&mut bytes, 4),
                other => panic!("a field of kind {other}"),
            }
            fields.push((key >> 3, value, content));
        }
        fields
    }

    /// Step, name and value of every scalar.
    fn values(file: &[u8]) -> Vec<(usize, String, f32)> {
        let mut found = Vec::new();
        for event in events(file) {
            let fields_of = fields(event);
            let step = fields_of
                .iter()
                .find(|field| field.0 == 2)
                .map(|field| field.1);
            for (_, _, summary) in fields_of.iter().filter(|field| field.0 == 5) {
                for (_, _, scalar) in fields(summary) {
                    let [(1, _, name), (2, _, value)] = fields(scalar)[..] else {
                        panic!("a name and a value: {scalar:?}");
                    };
                    let name = String::from_utf8_lossy(name).into_owned();
                    let value = f32::from_le_bytes(value.try_into().expect("four bytes"));
                    found.push((step.expect("it has a step"), name, value));
                }
            }
        }
        found
    }

    fn newest(folder: &Path) -> Vec<u8> {
        let (_, path) = files(folder).pop_last().expect("there is one");
        fs::read(path).expect("it is there")
    }

    #[test]
    fn checksums_are_the_known_ones() {
        assert_eq!(checksum(b"123456789"), 0xe306_9283);
        // The beginning of every file that TensorFlow writes: the length 24 of its first event.
        let length = 24u64.to_le_bytes();
        assert_eq!(masked(&length), [0xa3, 0x7f, 0x4b, 0x22]);
    }

    #[test]
    fn rows_come_back_by_another_reader() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = EventLog::create(folder.path(), &[row(10, "train")]).unwrap();
        assert!(EventLog::is_in(folder.path()));
        log.add(&row(10, "valid")).unwrap();
        let mut last = row(300, "train");
        last.set(Quantity::GradientNorm, 2.5);
        last.set(Quantity::Accuracy, f64::NAN);
        last.set(Quantity::Seconds, 60.0);
        log.add(&last).unwrap();
        let file = newest(folder.path());
        let scalar = |step, name: &str, value| (step, name.to_owned(), value);
        assert_eq!(
            values(&file),
            [
                scalar(10, "loss/train", 0.5),
                scalar(10, "loss/valid", 0.5),
                scalar(300, "loss/train", 0.5),
                scalar(300, "gradient_norm/train", 2.5),
            ]
        );
        let events = events(&file);
        let content = |event| fields(event).into_iter().nth(2).expect("a third field");
        assert_eq!(content(events[0]), (3, 0, VERSION));
        assert_eq!(content(events[1]), (7, 0, &[8, 1][..]));
        let time = |event| f64::from_le_bytes(fields(event)[0].2.try_into().unwrap());
        let waited = time(events[4]) - time(events[2]);
        assert!((waited - 60.0).abs() < 1e-3, "{waited}");
    }

    #[test]
    fn resumed_log_begins_anew_with_the_rows_that_stay() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let [old, theirs] = [
            at("events.out.tfevents.0000000001.reformer"),
            at("events.out.tfevents.1.a"),
        ];
        fs::write(&old, "cut off").unwrap();
        fs::write(&theirs, "whole").unwrap();
        let rows = [row(10, "train"), row(20, "train")];
        let mut log = EventLog::create(folder.path(), &rows[..1]).unwrap();
        log.add(&rows[1]).unwrap();
        drop(log);
        let whole = values(&newest(folder.path()));
        // Resumed after ten steps, in the same second, it repeats the others.
        let mut log = EventLog::create(folder.path(), &rows[..1]).unwrap();
        assert_eq!(values(&newest(folder.path())), whole[..1]);
        log.add(&rows[1]).unwrap();
        assert_eq!(values(&newest(folder.path())), whole);
        assert_eq!(files(folder.path()).len(), 2, "one earlier file");
        assert!(!old.exists() && theirs.exists());
    }
}
