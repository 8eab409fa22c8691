//! Folders for compiled kernels, each of which belongs to one process at a time.
//!
//! CubeCL appends compiled kernels to a file without a lock, which is not safe on network file systems, and panics if the
//! file vanishes. So a process holds a lock on its folder until it ends, further processes of the same build take further
//! folders, and only folders without a holder are deleted.

use std::cmp::Reverse;
use std::env;
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};
use xxhash_rust::xxh3::Xxh3;

/// The environment variable that switches the cache off.
pub(crate) const VARIABLE: &str = "REFORMER_KERNEL_CACHE";
/// The file on which a lock is held, of a folder and of all folders.
const LOCK: &str = "in-use";
/// Processes of one build that can have a folder at the same time.
const MOST_PROCESSES: usize = 64;
/// Other builds whose folders are kept while no process uses them.
const MOST_OTHERS: usize = 3;
/// A folder with more bytes is begun again, because each start reads all of them.
const MOST_BYTES: u64 = 256 << 20;
/// Bytes that have to be free: CubeCL panics if it cannot write a kernel.
const ROOM: usize = 16 << 20;
/// How long others may choose a folder.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether kernels are kept, by the value of [`VARIABLE`].
///
/// # Errors
/// A value that is neither `on` nor `off`.
pub(crate) fn is_wanted(value: Option<&OsStr>) -> Result<bool> {
    match value.map(OsStr::to_string_lossy).as_deref() {
        None | Some("" | "on") => Ok(true),
        Some("off") => Ok(false),
        Some(other) => {
            bail!("{VARIABLE} is `{other}`: `off` compiles kernels at each start, `on` keeps them")
        }
    }
}

/// A path to the file that this process runs, also if another one has its name by now.
pub(crate) fn program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") {
        return Ok(PathBuf::from("/proc/self/exe"));
    }
    env::current_exe()
}

/// Stands for the text of all kernels, which comes from the bytes of `program`, and for `machine`. Length and time of the
/// file would not do: images of containers and package managers may give every file the same time. Hashing 100 MB takes
/// some 30 ms.
pub(crate) fn fingerprint(program: &Path, machine: &str) -> io::Result<String> {
    let mut hasher = Xxh3::new();
    hasher.update(machine.as_bytes());
    hasher.update(&[0]);
    let mut file = File::open(program)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(format!("{:032x}", hasher.digest128())),
            n_read => hasher.update(&buffer[..n_read]),
        }
    }
}

/// A folder that belongs to this process as long as this value exists.
#[derive(Debug)]
pub(crate) struct KernelFolder {
    path: PathBuf,
    _lock: File,
}

impl KernelFolder {
    /// Takes a folder in `parent` for kernels of this fingerprint, and deletes the folders of builds that have not been used
    /// for long.
    ///
    /// # Errors
    /// A folder that cannot be written or locked, too little room, or too many processes.
    pub(crate) fn take(parent: &Path, fingerprint: &str) -> io::Result<Self> {
        let folder = Self::choose(parent, &parent.join(fingerprint))?;
        folder.tidy()?;
        has_room(&folder.path)?;
        Ok(folder)
    }

    /// The first folder of a build that has no holder.
    fn choose(parent: &Path, build: &Path) -> io::Result<Self> {
        fs::create_dir_all(parent)?;
        // Nobody deletes a folder that another process is about to take.
        let _choosing = lock_patiently(&parent.join(LOCK))?;
        // Old folders that cannot be deleted do not matter.
        prune(parent, build).ok();
        for number in 0..MOST_PROCESSES {
            let path = build.join(number.to_string());
            fs::create_dir_all(&path)?;
            if let Some(lock) = try_lock(&path.join(LOCK))? {
                lock.set_modified(SystemTime::now())?;
                return Ok(Self { path, _lock: lock });
            }
        }
        let message = format!("{MOST_PROCESSES} processes of this program use all of its folders");
        Err(io::Error::other(message))
    }

    /// Where CubeCL writes.
    pub(crate) fn kernels(&self) -> PathBuf {
        self.path.join("cubecl")
    }

    /// Deletes locks of CubeCL whose process has ended, for which it would wait, or all kernels if they are too many.
    fn tidy(&self) -> io::Result<()> {
        let files = files(&self.kernels())?;
        if files.iter().map(|(_, n_bytes)| n_bytes).sum::<u64>() > MOST_BYTES {
            return fs::remove_dir_all(self.kernels());
        }
        let mut paths = files.into_iter().map(|(path, _)| path);
        paths.try_for_each(|path| match path.extension() {
            Some(end) if end == "lock" => fs::remove_file(path),
            _ => Ok(()),
        })
    }
}

/// Opens a file and locks it, unless another holds the lock.
fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let mut options = File::options();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn lock_patiently(path: &Path) -> io::Result<File> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(lock) = try_lock(path)? {
            return Ok(lock);
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// The files below a folder, which need not exist, with their lengths in bytes.
fn files(folder: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            files.extend(self::files(&entry.path())?);
        } else {
            files.push((entry.path(), metadata.len()));
        }
    }
    Ok(files)
}

/// Checks that kernels can be written, also where a quota limits them.
fn has_room(folder: &Path) -> io::Result<()> {
    let path = folder.join("room");
    let written = fs::write(&path, vec![1; ROOM]);
    fs::remove_file(path).and(written)
}

/// Deletes the folders of all builds but `own`, those in use and those that were used last.
fn prune(parent: &Path, own: &Path) -> io::Result<()> {
    let mut unused = Vec::new();
    for build in folders(parent)? {
        if build != own
            && let Some(time) = last_use(&build)?
        {
            unused.push((time, build));
        }
    }
    unused.sort_unstable_by_key(|(time, _)| Reverse(*time));
    let mut old = unused.iter().skip(MOST_OTHERS);
    old.try_for_each(|(_, build)| fs::remove_dir_all(build))
}

/// When a folder of a build was taken last, or nothing if one is in use.
fn last_use(build: &Path) -> io::Result<Option<SystemTime>> {
    let mut last = SystemTime::UNIX_EPOCH;
    for folder in folders(build)? {
        match try_lock(&folder.join(LOCK))? {
            Some(lock) => last = last.max(lock.metadata()?.modified()?),
            None => return Ok(None),
        }
    }
    Ok(Some(last))
}

fn folders(parent: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_on_and_off_are_settings() {
        assert!(is_wanted(None).unwrap());
        assert!(is_wanted(Some(OsStr::new("on"))).unwrap());
        assert!(!is_wanted(Some(OsStr::new("off"))).unwrap());
        let error = is_wanted(Some(OsStr::new("of"))).unwrap_err();
        assert!(error.to_string().contains("`of`"), "{error}");
    }

    #[test]
    fn fingerprints_depend_on_the_bytes_and_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        let of = |bytes: &[u8], machine: &str| {
            fs::write(&program, bytes).unwrap();
            fingerprint(&program, machine).unwrap()
        };
        let long = vec![7; (1 << 20) + 1];
        assert_eq!(of(&long, "H100"), of(&long, "H100"));
        assert_ne!(of(&long, "H100"), of(&long, "H200"));
        assert_ne!(of(&long, "H100"), of(&long[1..], "H100"));
        assert_eq!(of(b"", "").len(), 32);
        assert!(fingerprint(&folder.path().join("none"), "").is_err());
    }

    #[test]
    fn the_running_program_can_be_read() {
        assert!(File::open(program().unwrap()).is_ok());
    }

    #[test]
    fn a_folder_has_one_holder_and_is_found_again() {
        let parent = tempfile::tempdir().unwrap();
        let first = KernelFolder::take(parent.path(), "build").unwrap();
        let second = KernelFolder::take(parent.path(), "build").unwrap();
        assert_ne!(first.kernels(), second.kernels());
        let kernels = first.kernels();
        fs::create_dir_all(&kernels).unwrap();
        fs::write(kernels.join("chunk"), "kernel").unwrap();
        drop(first);
        let again = KernelFolder::take(parent.path(), "build").unwrap();
        assert_eq!(again.kernels(), kernels);
        assert_eq!(fs::read_to_string(kernels.join("chunk")).unwrap(), "kernel");
        let other = KernelFolder::take(parent.path(), "other build").unwrap();
        assert!(!other.kernels().exists());
    }

    #[test]
    fn builds_in_use_and_the_latest_others_stay() {
        let parent = tempfile::tempdir().unwrap();
        let age = |folder: &KernelFolder, seconds: u64| {
            let time = SystemTime::now() - Duration::from_secs(seconds);
            folder._lock.set_modified(time).unwrap();
        };
        // An old folder is in use, and with it the build's other one stays.
        let used = KernelFolder::take(parent.path(), "used").unwrap();
        let ended = KernelFolder::take(parent.path(), "used").unwrap();
        age(&used, 1000);
        age(&ended, 1000);
        let ended = ended.path;
        let old: Vec<PathBuf> = (0..MOST_OTHERS as u64 + 2)
            .map(|number| {
                let folder = KernelFolder::take(parent.path(), &format!("old {number}")).unwrap();
                age(&folder, 10 * (number + 1));
                folder.path
            })
            .collect();
        let _new = KernelFolder::take(parent.path(), "new").unwrap();
        assert!(used.path.exists() && ended.exists());
        let kept: Vec<bool> = old.iter().map(|folder| folder.exists()).collect();
        assert_eq!(kept, [true, true, true, false, false]);
    }

    #[test]
    fn what_a_killed_process_leaves_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let kernels = KernelFolder::take(parent.path(), "build")
            .unwrap()
            .kernels();
        let deep = kernels.join("cuda").join("ptx");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("toc.json.log"), "").unwrap();
        fs::write(deep.join("toc.json.log.lock"), "").unwrap();
        let folder = KernelFolder::take(parent.path(), "build").unwrap();
        assert!(deep.join("toc.json.log").exists());
        assert!(!deep.join("toc.json.log.lock").exists());
        assert!(!folder.path.join("room").exists());

        let large = File::create(deep.join("chunk")).unwrap();
        large.set_len(MOST_BYTES + 1).unwrap();
        drop((folder, large));
        KernelFolder::take(parent.path(), "build").unwrap();
        assert!(!kernels.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(KernelFolder::take(&file, "build").is_err());
    }
}
