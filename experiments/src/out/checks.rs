//! Whether an output file can be written where a program is told to, and would replace nothing that is read.

use std::path::{Path, PathBuf};

use anyhow::bail;
use reformer_train::Run;

use super::descriptor;

/// Refuses an output file that cannot be written, before anything is computed for it, or [is read](check_not_read).
///
/// # Errors
/// Those of [`check_not_read`], a folder, or a file in a folder that does not exist or cannot be written.
pub(crate) fn check_output(
    flag: &str,
    output: Option<&Path>,
    inputs: impl IntoIterator<Item = impl AsRef<Path>>,
) -> anyhow::Result<()> {
    check_not_read(flag, output, inputs)?;
    output.map_or(Ok(()), |output| check_place(flag, output))
}

/// Refuses a path where no file can be written.
fn check_place(flag: &str, output: &Path) -> anyhow::Result<()> {
    let refused = |reason: &str| -> anyhow::Result<()> {
        bail!(
            "`{}` cannot be written: {reason} ({flag})",
            output.display()
        )
    };
    // A name that ends in `/` or `/.` can only be that of a folder, whether or not it exists.
    let is_of_folder = output.components().as_path().as_os_str() != output.as_os_str();
    if output.is_dir() || is_of_folder {
        return refused("it is a folder: name a file in it");
    }
    // A pipe, a device or what the shell opened is written into as it is.
    if output.exists() && !output.is_file() || descriptor(output).is_some() {
        return Ok(());
    }
    let whole = whole(output);
    let Some(folder) = whole.as_deref().and_then(Path::parent) else {
        return refused("its folder does not exist: make it, or name another file");
    };
    // A file without a name, which leaves nothing behind.
    match tempfile::tempfile_in(folder) {
        Ok(_) => Ok(()),
        Err(error) => refused(&format!("{error}: name another file")),
    }
}

/// Refuses an output file that is read as well, even under another name: results would take its place.
///
/// # Errors
/// An output that is one of the inputs, in a folder that is, or a file of any run or model, whether or not it exists.
pub(crate) fn check_not_read(
    flag: &str,
    output: Option<&Path>,
    inputs: impl IntoIterator<Item = impl AsRef<Path>>,
) -> anyhow::Result<()> {
    let Some(output) = output else {
        return Ok(());
    };
    match (is_of_model(output), output.is_file()) {
        (true, true) => bail!(
            "`{flag}` is `{}`, but this file of a run or model is read, and would be overwritten: name another file to \
             write",
            output.display()
        ),
        (true, false) => bail!(
            "`{flag}` is `{}`, but the run or model there would take it for a file of its own: name another file to write",
            output.display()
        ),
        (false, _) => {}
    }
    // The name under which it is written before it takes its own.
    let mut partial = output.as_os_str().to_owned();
    partial.push(".partial");
    let places = [output, Path::new(&partial)].into_iter();
    let replaced: Vec<&Path> = places.filter(|place| place.is_file()).collect();
    let is_read = |input: &Path| replaced.iter().any(|place| is_in(place, input));
    let mut inputs = inputs.into_iter();
    match inputs.find(|input| is_read(input.as_ref())) {
        None => Ok(()),
        Some(input) => bail!(
            "`{flag}` is `{}`, but `{}` is read, and would be overwritten: name another file to write",
            output.display(),
            input.as_ref().display()
        ),
    }
}

/// Refuses two output files, each with its flag, that are one: the second would replace the first.
///
/// # Errors
/// Two names of the same file, whether or not it exists.
pub(crate) fn check_apart(outputs: [(&str, &Path); 2]) -> anyhow::Result<()> {
    let [(flag, output), (other_flag, other)] = outputs;
    let is_kept = output.is_file() || !output.exists();
    match is_kept && is_in(output, other) {
        false => Ok(()),
        true => bail!(
            "`{flag}` is `{}`, and `{other_flag}` is the same file: name another one for either",
            output.display()
        ),
    }
}

/// Files of a run, and of a model of Hugging Face.
const FILES_OF_MODELS: [&str; 12] = [
    "config.json",
    "run.json",
    "metrics.csv",
    "samples.jsonl",
    "model.mpk",
    "lock",
    "classes.json",
    "subwords.json",
    "tokenizer.json",
    "spiece.model",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
];
/// Beginnings and ends of the names of weights of Hugging Face, in one file or several.
const WEIGHTS: [(&str, &str); 2] = [("model", ".safetensors"), ("pytorch_model", ".bin")];

/// Whether a file is one that makes up a run or a model of Hugging Face. Other files in their folders are results, such
/// as reports.
fn is_of_model(file: &Path) -> bool {
    let Some(file) = whole(file) else {
        return false;
    };
    let has_config = |folder: &Path| folder.join("config.json").is_file();
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let is_file = FILES_OF_MODELS.contains(&&*name)
        || WEIGHTS
            .iter()
            .any(|(begin, end)| name.starts_with(begin) && name.ends_with(end));
    is_file && file.parent().is_some_and(has_config) || Run::folder_of_checkpoint(&file).is_some()
}

/// Whether a file is another one or in that folder, in spite of links.
fn is_in(file: &Path, other: &Path) -> bool {
    match (whole(file), whole(other)) {
        (Some(file), Some(other)) => file.starts_with(&other) || is_same_file(&file, &other),
        _ => false,
    }
}

/// Most links that lead from one to the next, as many as Linux follows.
const MOST_LINKS: usize = 40;

/// A path without links. Its last part does not have to exist, and so does what a link leads to.
fn whole(path: &Path) -> Option<PathBuf> {
    let mut path = std::path::absolute(path).ok()?;
    for _ in 0..MOST_LINKS {
        if let Ok(whole) = path.canonicalize() {
            return Some(whole);
        }
        match path.read_link() {
            Ok(target) => path = path.parent()?.join(target),
            Err(_) => return Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?)),
        }
    }
    None
}

/// Whether two names are hard links to the same file.
#[cfg(unix)]
fn is_same_file(first: &Path, second: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let identity = |path: &Path| path.metadata().map(|found| (found.dev(), found.ino())).ok();
    identity(first).is_some_and(|first| identity(second) == Some(first))
}

#[cfg(not(unix))]
fn is_same_file(_: &Path, _: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn places_are_checked_and_left_as_they_are() {
        const OF_FOLDER: &str = "it is a folder: name a file in it (--json)";
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("old"), "old").unwrap();
        let check = |name: &str| check_output("--json", Some(&at(name)), [""; 0]);
        for name in ["old", "new", "folder/new"] {
            check(name).unwrap();
        }
        let names = fs::read_dir(folder.path()).unwrap();
        assert_eq!(names.count(), 2);
        assert_eq!(fs::read(at("old")).unwrap(), b"old");
        for (name, reason) in [
            ("folder", OF_FOLDER),
            ("folder/", OF_FOLDER),
            ("new/", OF_FOLDER),
            ("new/.", OF_FOLDER),
            ("old/", OF_FOLDER),
            (
                "none/new",
                "its folder does not exist: make it, or name another file (--json)",
            ),
            ("old/new", "name another file (--json)"),
        ] {
            let message = check(name).unwrap_err().to_string();
            let said = format!("`{}` cannot be written: ", at(name).display());
            assert!(
                message.starts_with(&said) && message.ends_with(reason),
                "{message}"
            );
        }
        check_output("--json", None, [""; 0]).unwrap();
        #[cfg(unix)]
        check_output("--json", Some(Path::new("/dev/null")), [""; 0]).unwrap();
    }

    #[test]
    fn what_is_read_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("texts")).unwrap();
        for name in ["texts/a", "b", "c.partial"] {
            fs::write(at(name), "read").unwrap();
        }
        let check =
            |output: &str, input: &str| check_not_read("--output", Some(&at(output)), [&at(input)]);
        let refused = |output: &str, input: &str| {
            let message = check(output, input).unwrap_err().to_string();
            assert!(message.starts_with("`--output` is `"), "{message}");
            assert!(message.ends_with("name another file to write"), "{message}");
        };
        refused("b", "b");
        refused("texts/../b", "b");
        refused("texts/a", "texts");
        // It would be written under that name first.
        refused("c", "c.partial");
        check("c", "b").unwrap();
        check("b", "texts/a").unwrap();
        check("b", "texts").unwrap();
        check("new", "b").unwrap();
        check("texts/new", "texts").unwrap();
        check("b", "new").unwrap();
        check_not_read("--output", None, [&at("b")]).unwrap();

        // Of a run, whichever is read.
        fs::create_dir_all(at("run/checkpoint")).unwrap();
        for name in [
            "run/model.mpk",
            "run/checkpoint/model-1.mpk",
            "run/report.html",
        ] {
            fs::write(at(name), "read").unwrap();
            check(name, "b").unwrap();
        }
        // The configuration of some other program makes no run of a folder.
        fs::write(at("run/config.json"), "{}").unwrap();
        check("run/checkpoint/model-1.mpk", "b").unwrap();
        fs::write(at("run/run.json"), "{}").unwrap();
        fs::create_dir(at("run/checkpoint/optim")).unwrap();
        fs::write(at("run/checkpoint/optim/part"), "read").unwrap();
        fs::write(at("run/model-00001-of-00002.safetensors"), "read").unwrap();
        for name in [
            "run/config.json",
            "run/model.mpk",
            "run/checkpoint/model-1.mpk",
            "run/checkpoint/optim/part",
            "run/model-00001-of-00002.safetensors",
        ] {
            refused(name, "b");
        }
        check("run/report.html", "b").unwrap();
        // New ones as well, which it would read.
        for name in [
            "run/classes.json",
            "run/checkpoint/model-2.mpk",
            "run/checkpoint",
            "run/checkpoint/optim/new",
            "run/pytorch_model-00002-of-00002.bin",
        ] {
            refused(name, "b");
        }
        for name in ["run/answers.json", "texts/classes.json", "none/run.json"] {
            check(name, "b").unwrap();
        }
        // Links lead there, too, whether or not there is anything yet.
        #[cfg(unix)]
        for target in ["run/classes.json", "run/model.mpk", "b"] {
            let link = at("link");
            std::os::unix::fs::symlink(at(target), &link).unwrap();
            refused("link", "b");
            fs::remove_file(link).unwrap();
        }

        let apart =
            |first: &str, second: &str| check_apart([("--a", &at(first)), ("--b", &at(second))]);
        apart("b", "new").unwrap();
        apart("new", "newer").unwrap();
        for [first, second] in [["b", "b"], ["new", "new"], ["texts/../new", "new"]] {
            let message = apart(first, second).unwrap_err().to_string();
            assert!(message.contains("`--b` is the same file"), "{message}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(at("b"), at("link")).unwrap();
            fs::hard_link(at("b"), at("hard")).unwrap();
            refused("link", "b");
            refused("b", "link");
            refused("hard", "b");
            refused("link", "hard");
            apart("link", "hard").unwrap_err();
            apart("/dev/null", "/dev/null").unwrap();
        }
    }
}
