//! Errors of the settings in a configuration, in words of its text instead of Rust's types.

use reformer_datasets::shown;
use serde_json::Value;
use thiserror::Error;

/// Why the text of a configuration, or a change of a setting, cannot be used. Each message is one line and
/// names the setting.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SettingError {
    /// A text in another format.
    #[error("it is not JSON")]
    NotJson(
        /// The position and kind of the mistake.
        #[source]
        serde_json::Error,
    ),

    /// Settings that JSON cannot hold, such as the name of a file that is not UTF-8.
    #[error("the settings cannot be written as JSON, which is UTF-8: rename the file or folder")]
    NotText(
        /// What cannot be written.
        #[source]
        serde_json::Error,
    ),

    /// A setting that does not exist; it would have no effect.
    #[error("there is no setting `{}`: {way_out}", shown(setting))]
    Unknown {
        /// Its path, as `--set` takes it.
        setting: String,
        /// The nearest name, or all names.
        way_out: String,
    },

    /// A value that a setting cannot have.
    #[error("`{setting}` cannot be {value}: {reason}")]
    Value {
        /// The path of the setting.
        setting: String,
        /// The value.
        value: Value,
        /// The values that it can have.
        reason: String,
    },

    /// Settings that are missing or given twice, or something else than settings.
    #[error("{0}")]
    Whole(String),
}

/// Describes why a value cannot be read. `before` is a value that the setting can have.
pub(crate) fn reason(error: &serde_json::Error, value: &Value, before: &Value) -> String {
    let text = error.to_string();
    let position = match error.line() {
        0 => None,
        _ => text.rfind(" at line "),
    };
    let text = &text[..position.unwrap_or(text.len())];
    if let Some(field) = text.strip_prefix("missing field ") {
        return format!("{field} is missing: add it");
    }
    if let Some(field) = text.strip_prefix("duplicate field ") {
        return format!("{field} is given twice: remove one");
    }
    let Some((found, expected)) = text.rsplit_once(", expected ") else {
        return text.to_owned();
    };
    if found.starts_with("unknown variant") {
        return format!("it has to be {expected}");
    }
    match (found, value) {
        ("invalid type: unit variant", Value::String(name)) => {
            format!("this name needs a value of its own: {{\"{name}\": ..}}")
        }
        _ => format!("it has to be {}", in_words(expected, before)),
    }
}

/// What serde expects, in words.
fn in_words(expected: &str, before: &Value) -> String {
    let whole = |least: i64, largest: u64| format!("a whole number from {least} to {largest}");
    let length = ["a tuple of size ", "an array of length "];
    let length = length.iter().find_map(|text| expected.strip_prefix(text));
    if let Some(length) = length {
        return format!("a list of {length}");
    }
    match expected {
        "u8" => whole(0, u8::MAX.into()),
        "u16" => whole(0, u16::MAX.into()),
        "u32" => whole(0, u32::MAX.into()),
        "u64" | "usize" => whole(0, u64::MAX),
        "i8" => whole(i8::MIN.into(), i8::MAX as u64),
        "i16" => whole(i16::MIN.into(), i16::MAX as u64),
        "i32" => whole(i32::MIN.into(), i32::MAX as u64),
        "i64" | "isize" => whole(i64::MIN, i64::MAX as u64),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" => "a text".to_owned(),
        "path string" => "a path".to_owned(),
        "a sequence" => "a list, in brackets".to_owned(),
        "char" | "a character" => "a single character".to_owned(),
        "string or map" => "a name, or an object with one name and its value".to_owned(),
        "variant identifier" => "a name".to_owned(),
        "unit variant" => "a name without a value".to_owned(),
        "newtype variant" | "map with a single key" => {
            "an object with one name and its value".to_owned()
        }
        _ if expected.starts_with("tuple ") => "a list, in brackets".to_owned(),
        _ if is_object(expected) => match before {
            Value::Object(fields) if !fields.is_empty() => {
                let names: Vec<&str> = fields.keys().map(String::as_str).collect();
                format!("an object with {}", names.join(", "))
            }
            _ => "an object with settings".to_owned(),
        },
        other => other.to_owned(),
    }
}

/// Whether serde expects named fields.
fn is_object(expected: &str) -> bool {
    ["struct ", "internally tagged enum", "map", "a map"]
        .iter()
        .any(|name| expected.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NonFiniteLoss, ScheduleConfig, TrainConfig};
    use serde::de::DeserializeOwned;
    use serde_json::json;

    #[test]
    fn no_name_of_a_type_is_told() {
        fn said<T: DeserializeOwned>(value: Value, before: &Value) -> String {
            match serde_json::from_value::<T>(value.clone()) {
                Ok(_) => panic!("{value} can be read"),
                Err(error) => reason(&error, &value, before),
            }
        }
        let none = &Value::Null;
        assert_eq!(
            said::<usize>(json!(-1), none),
            "it has to be a whole number from 0 to 18446744073709551615"
        );
        assert_eq!(said::<f64>(json!("x"), none), "it has to be a number");
        assert_eq!(said::<bool>(json!(1), none), "it has to be true or false");
        assert_eq!(
            said::<Vec<u8>>(json!(1), none),
            "it has to be a list, in brackets"
        );
        assert_eq!(
            said::<TrainConfig>(json!(3), none),
            "it has to be an object with settings"
        );
        assert_eq!(
            said::<TrainConfig>(json!([]), &json!({"model": 1, "steps": 2})),
            "it has to be an object with model, steps"
        );
        assert_eq!(
            said::<TrainConfig>(json!({}), none),
            "`model` is missing: add it"
        );
        assert_eq!(
            said::<u8>(json!(256), none),
            "it has to be a whole number from 0 to 255"
        );
        assert_eq!(
            said::<i8>(json!(-129), none),
            "it has to be a whole number from -128 to 127"
        );
        for value in [json!([1]), json!(3)] {
            assert_eq!(
                said::<(usize, usize)>(value.clone(), none),
                "it has to be a list of 2"
            );
            assert_eq!(said::<[usize; 2]>(value, none), "it has to be a list of 2");
        }
        assert_eq!(
            said::<char>(json!("ab"), none),
            "it has to be a single character"
        );
        assert_eq!(
            said::<Vec<NonFiniteLoss>>(json!(["Skip"]), none),
            "it has to be an object with one name and its value"
        );
        assert_eq!(
            said::<ScheduleConfig>(json!("Flat"), none),
            "it has to be one of `Constant`, `Linear`, `Cosine`, `Multifactor`"
        );
        assert_eq!(
            said::<ScheduleConfig>(json!(3), none),
            "it has to be a name, or an object with one name and its value"
        );
        assert_eq!(
            said::<ScheduleConfig>(json!({"Cosine": 3}), none),
            "it has to be an object with settings"
        );
        assert_eq!(
            said::<NonFiniteLoss>(json!("Skip"), none),
            "this name needs a value of its own: {\"Skip\": ..}"
        );
    }
}
