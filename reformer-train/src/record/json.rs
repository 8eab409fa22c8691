//! Settings in JSON.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::SettingError;
use crate::record::setting_below;

/// The byte order mark that some editors put before a text in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// A text without the byte order mark that some editors put before it, which is no part of JSON.
///
/// ```
/// use reformer_train::record::without_mark;
///
/// assert_eq!(without_mark("\u{feff}{}".as_bytes()), b"{}");
/// assert_eq!(without_mark(b"{}"), b"{}");
/// ```
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// Parses settings in JSON. Of a name that an object has twice, other readers take the last value; here it is an
/// error, at any depth.
///
/// # Errors
/// [`SettingError::NotJson`], or a setting that is given twice.
///
/// ```
/// use reformer_train::record::parse_settings;
///
/// assert_eq!(parse_settings(br#"{"steps": 7}"#).unwrap()["steps"], 7);
/// let twice = parse_settings(br#"{"data": {"Own": 1, "Own": 2}}"#).unwrap_err();
/// assert_eq!(twice.to_string(), "`data.Own` is given twice: remove one");
/// ```
pub fn parse_settings(text: &[u8]) -> Result<Value, SettingError> {
    let mut twice = None;
    let mut reader = serde_json::Deserializer::from_slice(without_mark(text));
    let settings = Settings {
        path: String::new(),
        twice: &mut twice,
    };
    let parsed = settings.deserialize(&mut reader);
    let parsed = parsed.and_then(|settings| reader.end().map(|()| settings));
    match (parsed, twice) {
        (Err(error), _) => Err(SettingError::NotJson(error)),
        (Ok(_), Some(setting)) => Err(SettingError::Whole(format!(
            "`{setting}` is given twice: remove one"
        ))),
        (Ok(settings), None) => Ok(settings),
    }
}

/// Reads the value of a setting, or all settings.
struct Settings<'a> {
    /// Path of the setting.
    path: String,
    /// The first setting that is given twice.
    twice: &'a mut Option<String>,
}

impl Settings<'_> {
    /// The same for a setting below this one.
    fn below(&mut self, name: &str) -> Settings<'_> {
        Settings {
            path: setting_below(&self.path, name),
            twice: &mut *self.twice,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Settings<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Settings<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(self.below(&items.len().to_string()))? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = object.next_key::<String>()? {
            if fields.contains_key(&name) {
                let setting = setting_below(&self.path, &name);
                self.twice.get_or_insert(setting);
            }
            let value = object.next_value_seed(self.below(&name))?;
            fields.insert(name, value);
        }
        Ok(fields.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_usual_reader() {
        let text = br#"{"a": [1, -2, 0.1, 1e300, 18446744073709551615, "\u00e9", {}], "b": {"a": null, "c": true}}"#;
        let usual: Value = serde_json::from_slice(text).unwrap();
        assert_eq!(parse_settings(text).unwrap(), usual);
        let marked = [MARK, text].concat();
        assert_eq!(parse_settings(&marked).unwrap(), usual);
        for text in ["", "{", "3 4", "{\"a\": 1,}", "nul", &"[".repeat(1 << 20)] {
            let error = parse_settings(text.as_bytes()).unwrap_err();
            assert!(matches!(error, SettingError::NotJson(_)), "{error}");
        }
    }

    #[test]
    fn what_is_given_twice_is_named_at_any_depth() {
        for (text, setting) in [
            (r#"{"a": 1, "b": 2, "a": 1}"#, "a"),
            (r#"{"a": {"b": {"c": 1, "c": 2}}}"#, "a.b.c"),
            (r#"{"a": [0, {"b": 1, "b": 2}]}"#, "a.1.b"),
            (r#"{"a": {"b": 1}, "a": {"b": 1}}"#, "a"),
        ] {
            let error = parse_settings(text.as_bytes()).unwrap_err();
            let expected = format!("`{setting}` is given twice: remove one");
            assert_eq!(error.to_string(), expected);
        }
    }
}
