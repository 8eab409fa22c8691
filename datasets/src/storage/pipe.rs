//! Pipes, which can be read only once: `<(zcat text.gz)` of a shell, and files created by `mkfifo`.

use std::fs::Metadata;
use std::path::Path;

use crate::error::DatasetError;
use crate::storage::Bytes;

#[cfg(unix)]
pub(super) use unix::{is_pipe, read};

/// Whether it is a pipe: never on these systems.
#[cfg(not(unix))]
pub(super) fn is_pipe(_metadata: &Metadata) -> bool {
    false
}

/// Never called, since there are no pipes.
#[cfg(not(unix))]
pub(super) fn read(path: &Path, _metadata: &Metadata) -> Result<Bytes, DatasetError> {
    Err(DatasetError::NoFile {
        path: path.to_owned(),
    })
}

#[cfg(unix)]
mod unix {
    use std::collections::HashMap;
    use std::fs::File;
    use std::io::{self, Read, Write};
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    use std::path::PathBuf;
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::{Mode, OFlags};

    use super::*;
    use crate::storage::Spool;

    /// Time to wait for a writer.
    const PATIENCE: Duration = Duration::from_secs(10);
    /// Maximum number of bytes, so that an endless writer does not fill the disk.
    const MAX_BYTES: u64 = 16 << 30;

    /// The content of pipes read by this process, by device, inode and path. A program may read its
    /// data more than once, and a pipe is empty the second time.
    static READ: LazyLock<Mutex<HashMap<Key, Bytes>>> = LazyLock::new(Mutex::default);
    type Key = (u64, u64, PathBuf);

    /// Whether it is a pipe.
    pub(in crate::storage) fn is_pipe(metadata: &Metadata) -> bool {
        metadata.file_type().is_fifo()
    }

    /// All bytes of a pipe, or those that this process has read from it before.
    pub(in crate::storage) fn read(
        path: &Path,
        metadata: &Metadata,
    ) -> Result<Bytes, DatasetError> {
        let key = (metadata.dev(), metadata.ino(), path.to_owned());
        // Held while reading, since two concurrent readers would get a part each.
        let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = read.get(&key) {
            return Ok(bytes.clone());
        }
        let bytes = read_all(path, PATIENCE, MAX_BYTES)?;
        read.insert(key, bytes.clone());
        Ok(bytes)
    }

    /// Reads until the last writer has closed the pipe.
    pub(super) fn read_all(
        path: &Path,
        patience: Duration,
        limit: u64,
    ) -> Result<Bytes, DatasetError> {
        let unreadable = |source: io::Error| DatasetError::from_io(path, source);
        // Without `NONBLOCK` opening would wait for a writer for ever.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        let mut pipe = File::from(opened.map_err(|error| unreadable(error.into()))?);
        let mut spool = Spool::new();
        let (mut chunk, mut n_bytes, start) = (vec![0; 1 << 16], 0, Instant::now());
        loop {
            match pipe.read(&mut chunk) {
                Ok(0) if n_bytes > 0 || wait(&pipe, Duration::ZERO).map_err(unreadable)? => {
                    return spool.into_bytes().map_err(unreadable);
                }
                Ok(0) if start.elapsed() > patience => {
                    return Err(DatasetError::SilentPipe {
                        path: path.to_owned(),
                        seconds: patience.as_secs(),
                    });
                }
                // No process has opened it for writing.
                Ok(0) => std::thread::sleep(Duration::from_millis(20)),
                Ok(n) => {
                    n_bytes += n as u64;
                    if n_bytes > limit {
                        return Err(DatasetError::EndlessPipe {
                            path: path.to_owned(),
                            limit,
                        });
                    }
                    spool.write_all(&chunk[..n]).map_err(unreadable)?;
                }
                // A writer has opened it, but not written yet.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(&pipe, Duration::from_secs(1)).map_err(unreadable)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
    }

    /// Waits for data. Returns whether all writers have closed the pipe, with no data left.
    fn wait(pipe: &File, at_most: Duration) -> io::Result<bool> {
        let mut polled = [PollFd::new(pipe, PollFlags::IN)];
        let timeout = Timespec {
            tv_sec: at_most.as_secs() as i64,
            tv_nsec: 0,
        };
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let found = polled[0].revents();
        Ok(found.contains(PollFlags::HUP) && !found.contains(PollFlags::IN))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::time::Duration;

    use rustix::fs::{FileType, Mode};

    use super::*;
    use crate::storage::read_file;

    type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

    fn fifo() -> std::io::Result<(tempfile::TempDir, std::path::PathBuf)> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("pipe");
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, mode, 0)?;
        Ok((folder, path))
    }

    #[test]
    fn pipe_is_read_to_its_end_and_once() -> Outcome {
        let (_folder, path) = fifo()?;
        let to = path.clone();
        let text: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
        let written = text.clone();
        let writer = std::thread::spawn(move || -> std::io::Result<()> {
            let mut pipe = OpenOptions::new().write(true).open(to)?;
            for part in written.chunks(100_000) {
                pipe.write_all(part)?;
                std::thread::sleep(Duration::from_millis(30));
            }
            Ok(())
        });
        assert!(*read_file(&path)? == *text);
        writer.join().expect("it writes")?;
        assert!(*read_file(&path)? == *text);
        Ok(())
    }

    #[test]
    fn pipe_without_a_writer_or_an_end_is_refused() -> Outcome {
        let (_folder, path) = fifo()?;
        let short = Duration::from_millis(50);
        let error = unix::read_all(&path, short, 100)
            .err()
            .ok_or("there is no writer")?;
        assert!(
            error.to_string().contains("no data arrived on the pipe"),
            "{error}"
        );
        let to = path.clone();
        let writer = std::thread::spawn(move || -> std::io::Result<()> {
            OpenOptions::new()
                .write(true)
                .open(to)?
                .write_all(&[7; 101])
        });
        let error = unix::read_all(&path, Duration::from_secs(10), 100);
        let error = error.err().ok_or("too much")?;
        assert!(error.to_string().contains("more than 100 bytes"), "{error}");
        let _ = writer.join();
        Ok(())
    }

    #[test]
    fn devices_are_refused() -> Outcome {
        for device in ["/dev/null", "/dev/zero"] {
            let error = read_file(Path::new(device)).err().ok_or("a device")?;
            assert_eq!(
                error.to_string(),
                format!(
                    "`{device}` is a device or a socket, and a file is needed: name a file or a pipe"
                )
            );
        }
        assert!(fs::metadata("/dev/null")?.len() == 0);
        Ok(())
    }
}
