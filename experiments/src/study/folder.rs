//! The folder of a study, and its files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Scale, StudyArguments};
use crate::cli::device::DeviceName;
use crate::out;

/// A study in its folder.
#[derive(Debug, Clone)]
pub(crate) struct Study {
    scale: Scale,
    device: DeviceName,
    folder: PathBuf,
}

impl Study {
    /// Starts or resumes a study.
    ///
    /// # Errors
    /// A folder that cannot be written, or one where the same study was begun with other settings.
    pub(crate) fn open(
        name: &'static str,
        arguments: &StudyArguments,
        settings: &impl Serialize,
    ) -> Result<Self> {
        Self::open_with(name, arguments, settings, |earlier| earlier)
    }

    /// Like [`open`](Self::open), for settings that earlier versions wrote in another form: `renewed` is given those of the
    /// folder, and returns them in today's.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub(crate) fn open_with(
        name: &'static str,
        arguments: &StudyArguments,
        settings: &impl Serialize,
        renewed: impl FnOnce(Value) -> Value,
    ) -> Result<Self> {
        if arguments.plan {
            bail!("`{name}` trains no models, so --plan has nothing to print");
        }
        let study = Self {
            scale: arguments.preset,
            device: arguments.device,
            folder: arguments.out.join(name).join(arguments.preset.name()),
        };
        // Created first, since every measurement writes below it.
        let points = study.folder.join("points");
        fs::create_dir_all(&points)
            .with_context(|| format!("the folder `{}` cannot be created", points.display()))?;
        let settings = serde_json::to_value(settings)?;
        let path = study.folder.join("config.json");
        match read(&path)?.map(renewed) {
            None => study.write_json("config.json", &settings)?,
            Some(earlier) if earlier == settings => {
                println!("Resuming in {}", study.folder.display());
            }
            Some(_) => bail!(
                "`{}` holds this study with other settings (see its config.json): remove it, or \
                 name another folder by --out",
                study.folder.display()
            ),
        }
        Ok(study)
    }

    pub(crate) fn scale(&self) -> Scale {
        self.scale
    }

    /// The backend it computes on.
    pub(crate) fn device(&self) -> DeviceName {
        self.device
    }

    /// The folder it writes to.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the stored measurement of this name, or else measures and stores it.
    pub(crate) fn remember<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        measure: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let name = format!("points/{key}.json");
        if let Some(value) = read(&self.folder.join(&name))? {
            return Ok(value);
        }
        let value = measure()?;
        self.write_json(&name, &value)?;
        Ok(value)
    }

    /// Writes a JSON file into the folder.
    pub(crate) fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        self.write(name, &format!("{}\n", serde_json::to_string_pretty(value)?))
    }

    /// Writes a text file into the folder.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        out::save(&path, text.as_bytes())
    }
}

/// Reads a value from a file, if the file exists.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if !path.exists() {
        return Ok(None);
    }
    let text =
        fs::read_to_string(path).with_context(|| format!("`{}` cannot be read", path.display()))?;
    let value = serde_json::from_str(&text)
        .with_context(|| format!("`{}` is damaged: remove it", path.display()))?;
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(out: &Path) -> StudyArguments {
        StudyArguments {
            plan: false,
            preset: Scale::Smoke,
            out: out.to_owned(),
            device: DeviceName::Flex,
        }
    }

    #[test]
    fn what_was_measured_is_not_measured_again() {
        let out = tempfile::tempdir().unwrap();
        let open = || Study::open("table", &arguments(out.path()), &[1, 2]).unwrap();
        let value = open().remember("a", || Ok(1.5)).unwrap();
        let again = open().remember("a", || bail!("again")).unwrap();
        assert_eq!((value, again), (1.5, 1.5));
        let failed = open().remember::<f64>("b", || bail!("no memory"));
        assert_eq!(failed.unwrap_err().to_string(), "no memory");
        assert_eq!(open().remember("b", || Ok(2.0)).unwrap(), 2.0);
    }

    #[test]
    fn other_settings_need_another_folder() {
        let out = tempfile::tempdir().unwrap();
        let open = |settings: &[i32]| Study::open("table", &arguments(out.path()), &settings);
        open(&[1]).unwrap();
        let message = open(&[2]).unwrap_err().to_string();
        assert!(
            message.contains("table/smoke") && message.contains("--out"),
            "{message}"
        );
    }

    #[test]
    fn damage_is_named() {
        let out = tempfile::tempdir().unwrap();
        let study = Study::open("table", &arguments(out.path()), &1).unwrap();
        study.write("points/a.json", "{").unwrap();
        let message = study.remember("a", || Ok(1)).unwrap_err().to_string();
        assert!(message.contains("a.json` is damaged"), "{message}");
    }
}
