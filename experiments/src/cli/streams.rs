//! Copies data from a pipe to a file: a run reads its data more than once, and again when it is
//! resumed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use reformer_train::DataConfig;
use serde_json::Value;

/// Files with copies of pipes.
#[derive(Debug, Default)]
pub(crate) struct SavedPipes(Vec<PathBuf>);

impl SavedPipes {
    /// Copies pipes and devices that the data names to files, and names the files instead. They are next to
    /// the run's folder, under its name with `.data-1`, `.data-2`.
    pub(crate) fn save(&mut self, data: DataConfig, run: &Path) -> Result<DataConfig> {
        let mut json = serde_json::to_value(&data)?;
        self.replace(&mut json, run)?;
        Ok(serde_json::from_value(json)?)
    }

    /// Removes the files when their run was not started.
    pub(crate) fn remove(&self) {
        for path in &self.0 {
            fs::remove_file(path).ok();
        }
    }

    /// Visits all strings, of which only paths can name a pipe.
    fn replace(&mut self, json: &mut Value, run: &Path) -> Result<()> {
        match json {
            Value::String(text) => {
                if is_stream(Path::new(text)) {
                    let copy = self.save_stream(Path::new(text), run)?;
                    *text = copy.display().to_string();
                }
                Ok(())
            }
            Value::Array(items) => items
                .iter_mut()
                .try_for_each(|item| self.replace(item, run)),
            Value::Object(fields) => fields
                .values_mut()
                .try_for_each(|field| self.replace(field, run)),
            _ => Ok(()),
        }
    }

    fn save_stream(&mut self, stream: &Path, run: &Path) -> Result<PathBuf> {
        let mut name = run.file_name().unwrap_or_default().to_owned();
        name.push(format!(".data-{}", self.0.len() + 1));
        let path = std::path::absolute(run)?.with_file_name(name);
        let copy = || -> io::Result<u64> {
            let mut from = File::open(stream)?;
            check_ends(&from)?;
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            io::copy(&mut from, &mut File::create_new(&path)?)
        };
        let copied = copy();
        if copied
            .as_ref()
            .is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists)
        {
            fs::remove_file(&path).ok();
        }
        let n_bytes = copied.with_context(|| {
            let (stream, path) = (stream.display(), path.display());
            format!("the data from `{stream}` cannot be saved in `{path}`")
        })?;
        self.0.push(path.clone());
        println!(
            "Saved {n_bytes} bytes from {} in {}",
            stream.display(),
            path.display()
        );
        Ok(path)
    }
}

/// Refuses devices, which may have no end; a terminal has one.
#[cfg(unix)]
fn check_ends(file: &File) -> io::Result<()> {
    use std::io::IsTerminal;
    use std::os::unix::fs::FileTypeExt;

    let kind = file.metadata()?.file_type();
    if kind.is_char_device() && !file.is_terminal() {
        return Err(io::Error::other(
            "it is a device, which may have no end: name a file or a pipe",
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_ends(_: &File) -> io::Result<()> {
    Ok(())
}

/// Whether a path names something that can be read only once.
fn is_stream(path: &Path) -> bool {
    path.is_absolute() && fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use reformer_train::data::{ClassFiles, ClassesConfig};
    use std::process::Command;

    #[test]
    fn pipes_become_files_and_all_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let made = Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(made.success());
        fs::write(at("file"), "a file").unwrap();
        let table = |path| ClassFiles::Table(path);
        let data = |train, valid| {
            DataConfig::Classes(ClassesConfig::new(table(train)).with_valid(Some(table(valid))))
        };
        let pipe = at("pipe");
        let writer = std::thread::spawn(move || fs::write(pipe, "through"));
        let mut saved = SavedPipes::default();
        let found = saved
            .save(data(at("pipe"), at("file")), &at("runs/x"))
            .unwrap();
        writer.join().unwrap().unwrap();
        assert_eq!(found, data(at("runs/x.data-1"), at("file")));
        assert_eq!(fs::read_to_string(at("runs/x.data-1")).unwrap(), "through");
        assert_eq!(
            saved.save(DataConfig::Sample, &at("runs/x")).unwrap(),
            DataConfig::Sample
        );
        saved.remove();
        assert!(!at("runs/x.data-1").exists());
    }
}
