//! Variants of JSON for questions: values as numbers or text, single values or lists, an
//! object of lists or a list of objects.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A file, an article, a paragraph, a question or a row: all fields are optional, and entries can
/// be nested.
#[derive(Default)]
pub(super) struct Entry {
    pub(super) id: Option<String>,
    pub(super) question: Option<String>,
    pub(super) context: Option<String>,
    pub(super) answers: Option<Answers>,
    pub(super) is_impossible: bool,
    /// The entries of `data`, `paragraphs` and `qas`.
    pub(super) entries: Vec<Entry>,
}

/// Answers in the order of the file.
pub(super) struct Answers(pub(super) Vec<Answer>);

#[derive(Default)]
pub(super) struct Answer {
    pub(super) text: String,
    /// In characters; `None` if it is missing or negative.
    pub(super) start: Option<usize>,
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or a list of objects")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Entry, M::Error> {
                let mut entry = Entry::default();
                while let Some(name) = map.next_key::<Scalar>()? {
                    match name.0.as_deref().unwrap_or_default() {
                        "id" => entry.id = map.next_value::<Scalar>()?.0,
                        "question" => entry.question = map.next_value::<Scalar>()?.0,
                        "context" => entry.context = map.next_value::<Scalar>()?.0,
                        "answers" => entry.answers = map.next_value()?,
                        "is_impossible" => {
                            entry.is_impossible = map.next_value::<Scalar>()?.is_true()
                        }
                        "data" | "paragraphs" | "qas" => {
                            entry
                                .entries
                                .append(&mut map.next_value::<Several<Entry>>()?.0);
                        }
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(entry)
            }

            fn visit_seq<S: SeqAccess<'de>>(self, seq: S) -> Result<Entry, S::Error> {
                let entries = Several::visitor().visit_seq(seq)?.0;
                Ok(Entry {
                    entries,
                    ..Entry::default()
                })
            }
        }
        deserializer.deserialize_any(Fields)
    }
}

impl<'de> Deserialize<'de> for Answers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let answers = Several::<OneOrLists>::deserialize(deserializer)?.0;
        Ok(Self(
            answers.into_iter().flat_map(|answers| answers.0).collect(),
        ))
    }
}

/// An answer as an object, several as an object of lists, or one as text.
struct OneOrLists(Vec<Answer>);

impl<'de> Deserialize<'de> for OneOrLists {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = OneOrLists;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an answer")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<OneOrLists, E> {
                let text = text.to_owned();
                Ok(OneOrLists(vec![Answer { text, start: None }]))
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<OneOrLists, M::Error> {
                let (mut texts, mut starts) = (Vec::new(), Vec::new());
                while let Some(name) = map.next_key::<Scalar>()? {
                    match name.0.as_deref().unwrap_or_default() {
                        "text" => texts = map.next_value::<Several<Scalar>>()?.0,
                        "answer_start" => starts = map.next_value::<Several<Scalar>>()?.0,
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                let mut starts = starts.iter().map(Scalar::position);
                let answers = texts.into_iter().map(|text| Answer {
                    text: text.0.unwrap_or_default(),
                    start: starts.next().flatten(),
                });
                Ok(OneOrLists(answers.collect()))
            }
        }
        deserializer.deserialize_any(Fields)
    }
}

/// A text, or a number or boolean as text; `None` if it is missing.
struct Scalar(Option<String>);

impl Scalar {
    fn is_true(&self) -> bool {
        let text = self.0.as_deref().unwrap_or_default();
        text.eq_ignore_ascii_case("true") || text == "1"
    }

    /// An offset in characters, also written as `17.0`.
    fn position(&self) -> Option<usize> {
        let text = self.0.as_deref()?.trim();
        text.strip_suffix(".0").unwrap_or(text).parse().ok()
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a number")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(Some(text.to_owned())))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar(Some(number.to_string())))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(Some(number.to_string())))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Scalar, E> {
                Ok(Scalar(Some(format!("{number:?}"))))
            }

            fn visit_bool<E: Error>(self, is_true: bool) -> Result<Scalar, E> {
                Ok(Scalar(Some(is_true.to_string())))
            }

            fn visit_unit<E: Error>(self) -> Result<Scalar, E> {
                Ok(Scalar(None))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// The elements of a list, or a single value; empty if it is missing.
struct Several<T>(Vec<T>);

impl<T> Several<T> {
    fn visitor() -> SeveralVisitor<T> {
        SeveralVisitor(PhantomData)
    }
}

struct SeveralVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Several<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self::visitor())
    }
}

/// A single value as a list of one.
fn alone<'de, T: Deserialize<'de>, E: Error>(
    value: impl serde::de::IntoDeserializer<'de, E>,
) -> Result<Several<T>, E> {
    Ok(Several(vec![T::deserialize(value.into_deserializer())?]))
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for SeveralVisitor<T> {
    type Value = Several<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list, or one of its elements")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Several<T>, S::Error> {
        let mut several = Vec::new();
        while let Some(value) = seq.next_element()? {
            several.push(value);
        }
        Ok(Several(several))
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Several<T>, M::Error> {
        let value = T::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Several(vec![value]))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Several<T>, E> {
        alone(text)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Several<T>, E> {
        alone(number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Several<T>, E> {
        alone(number)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Several<T>, E> {
        alone(number)
    }

    fn visit_unit<E: Error>(self) -> Result<Several<T>, E> {
        Ok(Several(Vec::new()))
    }
}
