//! Reading configurations and changing their settings.

use serde_json::{Map, Value};

use super::older;
use crate::config::TrainConfig;
use crate::data::DataConfig;
use crate::error::{SettingError, reason};
use crate::optimizer::OptimizerConfig;
use crate::record::{is_within, nearest_name, parse_settings, setting_below};
use crate::task::model::ModelConfig;

/// Settings that are replaced one by one; all others are replaced as a whole.
const STRUCTURES: [&str; 5] = [
    "",
    "model",
    "model.reformer",
    "model.reformer.lsh",
    "model.reformer.local",
];

impl TrainConfig {
    /// Reads a configuration in JSON. Settings that did not exist in the version that wrote it get the values
    /// that were in effect then, so that a run continues as it began.
    ///
    /// # Errors
    /// Text that is not a configuration, or a setting that does not exist or is given twice.
    pub fn from_json(text: &[u8]) -> Result<Self, SettingError> {
        Self::from_settings(&parse_settings(text)?)
    }

    /// The same for JSON that is [parsed](parse_settings) already.
    ///
    /// # Errors
    /// Something else than a configuration, or a setting that does not exist.
    pub fn from_settings(settings: &Value) -> Result<Self, SettingError> {
        match read(settings.clone()) {
            Ok(config) => {
                check_known(settings, &config)?;
                Ok(config)
            }
            Err(error) => Err(wrong_setting(settings)
                .or_else(|| missing_setting(settings))
                .unwrap_or_else(|| whole(&error, settings))),
        }
    }

    /// Changes a setting, by its path as `--set` takes it: `model.reformer.n_layers`.
    ///
    /// # Errors
    /// A setting that does not exist, or a value that it cannot have.
    pub fn with_setting(&self, setting: &str, value: Value) -> Result<Self, SettingError> {
        let mut settings = serde_json::to_value(self).map_err(SettingError::NotText)?;
        let place = find(&mut settings, setting)?;
        let before = std::mem::replace(place, value.clone());
        match read(settings.clone()) {
            Ok(config) => {
                check_known(&settings, &config)?;
                Ok(config)
            }
            Err(error) => Err(
                misspelt(&error, setting, &value, &before).unwrap_or_else(|| SettingError::Value {
                    reason: names(settings, setting)
                        .unwrap_or_else(|| reason(&error, &value, &before)),
                    setting: setting.to_owned(),
                    value,
                }),
            ),
        }
    }

    /// Changes the settings that an object in JSON has, one after the other. Names may be paths: `model.reformer.n_layers`.
    ///
    /// # Errors
    /// The first one that does not exist or cannot have its value, or one that is given twice.
    pub fn with_settings(self, settings: &Value) -> Result<Self, SettingError> {
        if !settings.is_object() {
            let text = "it has to be an object with settings";
            return Err(SettingError::Whole(text.to_owned()));
        }
        let settings = list(settings, "");
        check_once(&settings)?;
        settings
            .into_iter()
            .try_fold(self, |config, (setting, value)| {
                config.with_setting(&setting, value.clone())
            })
    }
}

/// Reads a configuration of this version or of an older one.
fn read(settings: Value) -> Result<TrainConfig, serde_json::Error> {
    serde_json::from_value(settings.clone()).or_else(|error| {
        let mut settings = settings;
        older::complete(&mut settings);
        serde_json::from_value(settings).map_err(|_| error)
    })
}

/// The error of a configuration in which no single setting is wrong.
fn whole(error: &serde_json::Error, settings: &Value) -> SettingError {
    SettingError::Whole(reason(error, settings, &Value::Null))
}

/// A configuration with a model of the same kind.
fn of_same_kind(settings: &Value) -> TrainConfig {
    let model = settings.get("model").unwrap_or(&Value::Null);
    TrainConfig::new(ModelConfig::smallest(model), DataConfig::Sample)
}

/// The first setting whose value is wrong, whatever the others are.
fn wrong_setting(settings: &Value) -> Option<SettingError> {
    let base = of_same_kind(settings);
    list(settings, "").into_iter().find_map(|(setting, value)| {
        let changed = base.with_setting(&setting, value.clone());
        changed.err().filter(|error| match error {
            SettingError::Value { .. } => true,
            // Part of a value that has to be complete.
            SettingError::Unknown { setting: own, .. } => *own != setting,
            _ => false,
        })
    })
}

/// The error of a setting that is missing: its path, or the unknown one that is probably a misspelling of it.
fn missing_setting(settings: &Value) -> Option<SettingError> {
    let mut own = settings.clone();
    older::complete(&mut own);
    let known = serde_json::to_value(of_same_kind(settings)).ok()?;
    let error = serde_json::from_value::<TrainConfig>(own.clone()).err()?;
    let name = missing_name(&error)?;
    // Inner ones are read first.
    STRUCTURES.iter().rev().find_map(|path| {
        let [own, known] = [&own, &known].map(|settings| object_at(settings, path));
        let (own, known) = (own?, known?);
        if !known.contains_key(&name) || own.contains_key(&name) {
            return None;
        }
        let unknown = own.keys().filter(|own| !known.contains_key(*own));
        let missing = setting_below(path, &name);
        Some(match nearest_name(&name, unknown.map(String::as_str)) {
            Some(misspelt) => SettingError::Unknown {
                setting: setting_below(path, misspelt),
                way_out: format!("did you mean `{missing}`?"),
            },
            None => SettingError::Whole(format!("`{missing}` is missing: add it")),
        })
    })
}

/// The name that an error says is missing.
fn missing_name(error: &serde_json::Error) -> Option<String> {
    let text = error.to_string();
    let rest = text.strip_prefix("missing field `")?;
    Some(rest.split('`').next()?.to_owned())
}

/// The settings at a path, if they are an object.
fn object_at<'a>(settings: &'a Value, path: &str) -> Option<&'a Map<String, Value>> {
    let mut names = path.split('.').filter(|name| !name.is_empty());
    let place = names.try_fold(settings, |place, name| place.get(name));
    place?.as_object()
}

/// The settings of an object with their paths.
fn list<'a>(settings: &'a Value, path: &str) -> Vec<(String, &'a Value)> {
    match settings {
        Value::Object(fields) if STRUCTURES.contains(&path) => fields
            .iter()
            .flat_map(|(name, value)| list(value, &setting_below(path, name)))
            .collect(),
        // The whole configuration is no setting.
        _ if path.is_empty() => vec![],
        value => vec![(path.to_owned(), value)],
    }
}

/// Checks that no setting is given twice, be it as a part of another one.
fn check_once(settings: &[(String, &Value)]) -> Result<(), SettingError> {
    for (number, (whole, _)) in settings.iter().enumerate() {
        let mut others = settings.iter().enumerate();
        let is_part =
            |(other, (part, _)): &(usize, &(String, _))| *other != number && is_within(part, whole);
        if let Some((_, (part, _))) = others.find(is_part) {
            return Err(SettingError::Whole(match part == whole {
                true => format!("`{part}` is given twice: remove one"),
                false => {
                    format!("`{part}` is given beside `{whole}`, which it is a part of: remove one")
                }
            }));
        }
    }
    Ok(())
}

/// Finds a setting by its path, in which numbers from 0 stand for the items of a list.
fn find<'a>(settings: &'a mut Value, setting: &str) -> Result<&'a mut Value, SettingError> {
    let (mut place, mut path) = (settings, String::new());
    for name in setting.split('.') {
        let not_in = |what: String| SettingError::Unknown {
            setting: setting.to_owned(),
            way_out: format!("`{path}` is {what}: set `{path}` itself"),
        };
        place = match place {
            Value::Object(fields) if !fields.contains_key(name) => {
                return Err(unknown(&path, name, fields.keys()));
            }
            Value::Object(fields) => &mut fields[name],
            Value::Array(items) => {
                let n_items = items.len();
                let number = (0..n_items).find(|number| number.to_string() == name);
                let what = || not_in(format!("a list of {n_items}, counted from 0"));
                &mut items[number.ok_or_else(what)?]
            }
            _ => return Err(not_in("a plain value".to_owned())),
        };
        path = setting_below(&path, name);
    }
    Ok(place)
}

/// The error of a setting that is not among those below `path`.
fn unknown<'a>(
    path: &str,
    name: &str,
    names: impl Iterator<Item = &'a String> + Clone,
) -> SettingError {
    let names = names.map(String::as_str);
    let way_out = match nearest_name(name, names.clone()) {
        Some(nearest) => format!("did you mean `{}`?", setting_below(path, nearest)),
        None => {
            let names: Vec<&str> = names.collect();
            format!("use one of {}", names.join(", "))
        }
    };
    SettingError::Unknown {
        setting: setting_below(path, name),
        way_out,
    }
}

/// The names that a setting can have, if it is a choice: what is said of one that does not exist.
fn names(mut settings: Value, setting: &str) -> Option<String> {
    let place = find(&mut settings, setting).ok()?;
    if place.is_string() || place.is_object() {
        return None;
    }
    *place = "?".into();
    let error = read(settings).err()?;
    let is_choice = error.to_string().starts_with("unknown variant");
    is_choice.then(|| reason(&error, &Value::Null, &Value::Null))
}

/// The error of a value in which a name is missing, if it has one that does not exist: probably a misspelling.
fn misspelt(
    error: &serde_json::Error,
    setting: &str,
    value: &Value,
    before: &Value,
) -> Option<SettingError> {
    let missing = missing_name(error)?;
    let known = match setting {
        "optimizer" => OptimizerConfig::all_settings(),
        _ => before.clone(),
    };
    // Of another choice than the present one, the names are not known.
    let is_known = match (value, &known) {
        (Value::Object(own), Value::Object(known)) => {
            known.contains_key(&missing) || own.keys().all(|own| known.contains_key(own))
        }
        (Value::Array(_), Value::Array(_)) => true,
        _ => false,
    };
    let unknown = is_known.then(|| check_below(setting, value, &known).err());
    unknown.flatten()
}

/// Checks that a configuration has every setting of the text that it was read from: unknown ones would have no
/// effect.
fn check_known(settings: &Value, config: &TrainConfig) -> Result<(), SettingError> {
    let known = serde_json::to_value(config).map_err(SettingError::NotText)?;
    check_below("", settings, &known)
}

fn check_below(path: &str, settings: &Value, known: &Value) -> Result<(), SettingError> {
    match (settings, known) {
        (Value::Object(settings), Value::Object(known)) => {
            settings
                .iter()
                .try_for_each(|(name, value)| match known.get(name) {
                    Some(known) => check_below(&setting_below(path, name), value, known),
                    // Not set, which is what it would be in any case.
                    None if value.is_null() => Ok(()),
                    None => Err(unknown(path, name, known.keys())),
                })
        }
        (Value::Array(settings), Value::Array(known)) => {
            let mut items = settings.iter().zip(known).enumerate();
            items.try_for_each(|(number, (value, known))| {
                check_below(&setting_below(path, &number.to_string()), value, known)
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
