//! Flags with values of the library, each given by its name.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// A type with a few values that a flag can name.
pub(crate) trait Named: Clone + Send + Sync + 'static {
    /// Each value's name, its description, and the value.
    fn all() -> Vec<(&'static str, &'static str, Self)>;
}

/// Parses the name of a value. `--help` lists all of them with their descriptions.
pub(crate) fn named<T: Named>() -> impl TypedValueParser<Value = T> {
    let names = T::all().into_iter();
    let names = names.map(|(name, about, _)| PossibleValue::new(name).help(about));
    PossibleValuesParser::new(names)
        .map(|name| find::<T>(&name).expect("it is one of the possible values"))
}

fn find<T: Named>(name: &str) -> Option<T> {
    let found = T::all().into_iter().find(|(own, ..)| *own == name);
    found.map(|(.., value)| value)
}

/// The name of a value, if a flag can have it.
pub(crate) fn name_of<T: Named + PartialEq>(value: &T) -> Option<&'static str> {
    let found = T::all().into_iter().find(|(.., other)| other == value);
    found.map(|(name, ..)| name)
}

/// The names of several values, as a flag can have them.
pub(crate) fn names_of<T: Named + PartialEq>(values: &[T]) -> Option<String> {
    let names: Option<Vec<&str>> = values.iter().map(name_of).collect();
    Some(names?.join(","))
}

/// A value as its name in JSON, by `#[serde(with = "by_name")]`.
pub(crate) mod by_name {
    use serde::{Deserialize, Deserializer, Serializer, de, ser};

    use super::{Named, find, name_of};

    pub(crate) fn serialize<T: Named + PartialEq, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let name = name_of(value).ok_or_else(|| ser::Error::custom("a value without a name"))?;
        serializer.serialize_str(name)
    }

    pub(crate) fn deserialize<'a, T: Named, D: Deserializer<'a>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let name = String::deserialize(deserializer)?;
        find(&name).ok_or_else(|| de::Error::custom(format!("there is no `{name}`")))
    }
}

/// Several values as their names in JSON, by `#[serde(with = "by_names")]`.
pub(crate) mod by_names {
    use serde::{Deserialize, Deserializer, Serializer, de, ser};

    use super::{Named, find, names_of};

    pub(crate) fn serialize<T: Named + PartialEq, S: Serializer>(
        values: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let names = names_of(values).ok_or_else(|| ser::Error::custom("a value without a name"))?;
        serializer.serialize_str(&names)
    }

    pub(crate) fn deserialize<'a, T: Named, D: Deserializer<'a>>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        let names = String::deserialize(deserializer)?;
        let value = |name: &str| find(name).ok_or_else(|| format!("there is no `{name}`"));
        let values: Result<_, String> = names.split(',').map(value).collect();
        values.map_err(de::Error::custom)
    }
}
