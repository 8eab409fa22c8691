//! Writing files that are whole or absent.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Maximum number of symbolic links that are followed to an output file, as in Linux.
const MOST_LINKS: usize = 40;

/// Writes a file under another name and then renames it: at any time, even if the program
/// is killed, the path refers to the old content or the new one, never to a part.
///
/// An existing file keeps its mode, and a symbolic link stays one: its target is written. A path that is not
/// a regular file, such as `/dev/null` or a named pipe, is not replaced but written into.
///
/// # Errors
/// Any error of the operating system or of `write`; the old content then stays.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let old = match fs::metadata(path) {
        Ok(old) => Some(old),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        let mut writer = BufWriter::new(OpenOptions::new().write(true).open(path)?);
        return write(&mut writer).and_then(|()| writer.flush());
    }
    let path = &behind_links(path);
    let mut name = OsString::from(path.file_name().unwrap_or_default());
    name.push(".partial");
    let partial = path.with_file_name(name);
    let mut writer = BufWriter::new(create(&partial, old)?);
    let written = write(&mut writer)
        .and_then(|()| writer.flush())
        // Otherwise a power failure could keep the new name and lose the content.
        .and_then(|()| writer.get_ref().sync_all())
        .and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // The disk may be full. Nothing more can be done about a second failure.
        fs::remove_file(&partial).ok();
    }
    written
}

/// The target of symbolic links, whether or not it exists.
fn behind_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(target) = fs::read_link(&path) else {
            break;
        };
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    path
}

/// Creates a file with the mode of an old one before anything is written into it.
fn create(path: &Path, old: Option<Metadata>) -> io::Result<File> {
    // Left by a killed program, or a symbolic link placed by another user.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = File::create_new(path)?;
    if let Some(old) = old {
        file.set_permissions(old.permissions())?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_write_keeps_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, "old").unwrap();
        let failed = write_atomically(&path, |writer| {
            writer.write_all(b"ne")?;
            Err(io::Error::other("the disk is full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }

    #[cfg(unix)]
    #[test]
    fn modes_links_and_what_is_no_file_stay() {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &'static str| {
            write_atomically(&at(name), |writer| writer.write_all(text.as_bytes()))
        };
        let mode = |name: &str| fs::metadata(at(name)).unwrap().permissions().mode() & 0o777;
        fs::write(at("secret"), "old").unwrap();
        fs::set_permissions(at("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink("secret", at("link")).unwrap();
        symlink("not there yet", at("dangling")).unwrap();
        // Files that an attacker could have placed there.
        symlink("secret", at("plain.partial")).unwrap();
        write("link", "new").unwrap();
        write("dangling", "far").unwrap();
        write("plain", "plain").unwrap();
        assert_eq!(fs::read_to_string(at("secret")).unwrap(), "new");
        assert_eq!(fs::read_to_string(at("not there yet")).unwrap(), "far");
        assert_eq!(fs::read_to_string(at("plain")).unwrap(), "plain");
        assert!(at("link").is_symlink() && at("dangling").is_symlink());
        assert!(!at("plain").is_symlink());
        assert_eq!(mode("secret"), 0o600);

        let made = std::process::Command::new("mkfifo")
            .arg(at("pipe"))
            .status();
        assert!(made.expect("every Unix has it").success());
        let (pipe, reading) = (at("pipe"), at("pipe"));
        let reader = std::thread::spawn(move || fs::read_to_string(reading));
        write("pipe", "through").unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), "through");
        assert!(fs::metadata(pipe).unwrap().file_type().is_fifo());
        assert!(write(".", "a folder").is_err());
        symlink("circle", at("circle")).unwrap();
        assert!(write("circle", "nowhere").is_err() && at("circle").is_symlink());
        let partials = fs::read_dir(folder.path()).unwrap().filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().ends_with(".partial")
        });
        assert_eq!(partials.count(), 0);
    }
}
