//! All files of a folder.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::DatasetError;
use crate::report::ReadReport;
use crate::storage::files::{Identity, identity};

/// Maximum number of files and folders: three times those of ImageNet's training set.
const MAX_ENTRIES: usize = 4_000_000;

/// All files in a folder and its subfolders, in the order of their paths. Each real file is listed
/// once, even if several links lead to it: by its own path if that is in the folder, otherwise by
/// the first link. Hidden files are left out, and so are paths that are not files or folders; the
/// report counts them.
///
/// Paths are compared folder by folder and byte by byte, so the order is the same everywhere.
pub(crate) fn walk(folder: &Path, report: &mut ReadReport) -> Result<Vec<PathBuf>, DatasetError> {
    let unreadable = |source| DatasetError::from_io(folder, source);
    if is_of_the_system(folder).map_err(unreadable)? {
        return Err(DatasetError::SystemFolder {
            path: folder.to_owned(),
        });
    }
    let mut walk = Walk {
        root: folder,
        report,
        files: Vec::new(),
        links: BTreeSet::new(),
        seen: HashSet::new(),
        n_entries: 0,
    };
    // A link to a parent of this folder would lead to the whole disk.
    for ancestor in folder
        .canonicalize()
        .map_err(unreadable)?
        .ancestors()
        .skip(1)
    {
        let metadata = fs::metadata(ancestor).map_err(unreadable)?;
        walk.is_new(ancestor, &metadata)?;
    }
    walk.take(
        folder.to_owned(),
        &fs::metadata(folder).map_err(unreadable)?,
    )?;
    // Links come after files with a path of their own.
    while let Some(link) = walk.links.pop_first() {
        match fs::metadata(&link) {
            Ok(metadata) => walk.take(link, &metadata)?,
            Err(_) => walk.report.skip("broken links", link.display()),
        }
    }
    walk.files.sort();
    Ok(walk.files)
}

struct Walk<'a> {
    root: &'a Path,
    report: &'a mut ReadReport,
    files: Vec<PathBuf>,
    /// Links that have not been followed yet.
    links: BTreeSet<PathBuf>,
    /// Files and folders that have been visited.
    seen: HashSet<Identity>,
    n_entries: usize,
}

impl Walk<'_> {
    /// Whether a file or folder has not been visited before.
    fn is_new(&mut self, path: &Path, metadata: &Metadata) -> Result<bool, DatasetError> {
        let identity = identity(path, metadata);
        let identity = identity.map_err(|source| DatasetError::from_io(path, source))?;
        Ok(self.seen.insert(identity))
    }

    /// Adds a file, or the content of a folder, collecting links for later.
    fn take(&mut self, path: PathBuf, metadata: &Metadata) -> Result<(), DatasetError> {
        let mut folders = Vec::new();
        self.take_one(path, metadata, &mut folders)?;
        while let Some(folder) = folders.pop() {
            for path in self.entries(&folder)? {
                let metadata = fs::symlink_metadata(&path);
                let metadata = metadata.map_err(|source| DatasetError::from_io(&path, source))?;
                if metadata.is_symlink() {
                    self.links.insert(path);
                } else {
                    self.take_one(path, &metadata, &mut folders)?;
                }
            }
        }
        Ok(())
    }

    fn take_one(
        &mut self,
        path: PathBuf,
        metadata: &Metadata,
        folders: &mut Vec<PathBuf>,
    ) -> Result<(), DatasetError> {
        let skipped = if !(metadata.is_file() || metadata.is_dir()) {
            "pipes, sockets and devices"
        } else if !self.is_new(&path, metadata)? {
            "links to what was already read"
        } else if metadata.is_file() {
            self.files.push(path);
            return Ok(());
        } else if is_of_the_system(&path).map_err(|source| DatasetError::from_io(&path, source))? {
            "folders of the operating system"
        } else {
            folders.push(path);
            return Ok(());
        };
        self.report.skip(skipped, path.display());
        Ok(())
    }

    /// The entries of a folder, in order, without hidden files.
    fn entries(&mut self, folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
        let unreadable = |source| DatasetError::from_io(folder, source);
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            self.n_entries += 1;
            if self.n_entries > MAX_ENTRIES {
                return Err(DatasetError::TooManyFiles {
                    path: self.root.to_owned(),
                    limit: MAX_ENTRIES,
                });
            }
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                self.report.skip("hidden files", entry.path().display());
            } else {
                entries.push(entry.path());
            }
        }
        entries.sort();
        Ok(entries)
    }
}

/// Whether a folder shows the state of the system (`/proc`, `/sys`) instead of files.
#[cfg(target_os = "linux")]
fn is_of_the_system(folder: &Path) -> io::Result<bool> {
    /// Magic numbers of proc, sysfs and the second version of cgroup, from `linux/magic.h`.
    const KINDS: [u32; 3] = [0x9fa0, 0x6265_6572, 0x6367_7270];
    let kind = rustix::fs::statfs(folder)?.f_type as u32;
    Ok(KINDS.contains(&kind))
}

#[cfg(not(target_os = "linux"))]
fn is_of_the_system(_folder: &Path) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn walk_is_sorted_and_leaves_hidden_files_out() -> Outcome {
        let folder = tempfile::tempdir()?;
        let inside = |name: &str| folder.path().join(name);
        fs::create_dir_all(inside("b/c"))?;
        fs::create_dir(inside(".git"))?;
        for name in ["z", "b/x", "b/c/y", "a", ".hidden", ".git/config"] {
            fs::write(inside(name), name)?;
        }
        let expected = ["a", "b/c/y", "b/x", "z"].map(inside);
        let mut report = ReadReport::default();
        assert_eq!(walk(folder.path(), &mut report)?, expected);
        assert_eq!(report.skipped.len(), 1);
        assert_eq!(report.skipped[0].count, 2);
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn each_real_file_is_there_once() -> Outcome {
        use std::os::unix::fs::symlink;
        let (folder, outside) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let inside = |name: &str| folder.path().join(name);
        fs::create_dir(inside("texts"))?;
        fs::write(inside("texts/one"), "1")?;
        fs::write(inside("two"), "2")?;
        fs::write(outside.path().join("three"), "3")?;
        // Links to itself, its parent, a file, twice to an outside folder, nowhere, to each other,
        // to a system folder.
        symlink(".", inside("x"))?;
        symlink("..", inside("texts/up"))?;
        symlink("/", inside("all"))?;
        symlink("texts/one", inside("a-first"))?;
        symlink(outside.path(), inside("out"))?;
        symlink(outside.path(), inside("out-again"))?;
        symlink("nowhere", inside("gone"))?;
        symlink("loop-b", inside("loop-a"))?;
        symlink("loop-a", inside("loop-b"))?;
        symlink("/proc/self", inside("process"))?;
        fs::hard_link(inside("two"), inside("two-too"))?;
        let mut report = ReadReport::default();
        let expected = ["out/three", "texts/one", "two"].map(inside);
        assert_eq!(walk(folder.path(), &mut report)?, expected);
        let counts = |start: &str| {
            let mut skipped = report.skipped.iter();
            skipped
                .find(|of| of.reason.starts_with(start))
                .map(|of| of.count)
        };
        assert_eq!(counts("links to what was already read"), Some(6));
        assert_eq!(counts("broken links"), Some(3));
        let is_linux = cfg!(target_os = "linux");
        assert_eq!(
            counts("folders of the operating system"),
            is_linux.then_some(1)
        );
        Ok(())
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn folders_of_the_system_are_refused() {
        for folder in ["/proc", "/proc/self", "/sys/kernel"] {
            let error = walk(Path::new(folder), &mut ReadReport::default());
            assert!(
                matches!(error, Err(DatasetError::SystemFolder { .. })),
                "{error:?}"
            );
        }
    }
}
