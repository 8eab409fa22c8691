//! The run and model that a record belongs to.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::tag::Tag;
use crate::error::TrainError;
use crate::record::setting::setting_below;

/// The owner of records that are written, or the expected one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Owner {
    /// The run.
    pub(crate) run: Option<String>,
    model: Option<Value>,
}

impl Owner {
    /// A run and its model.
    pub(crate) fn new(run: Option<String>, model: &impl Serialize) -> Self {
        let model = serde_json::to_value(model).ok();
        Self { run, model }
    }

    /// The tag of a file of this owner.
    pub(super) fn tag(&self, path: &Path) -> Tag {
        Tag {
            name: path
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned()),
            run: self.run.clone(),
            model: self.model.clone(),
        }
    }

    /// Checks that a file belongs to this owner. Files of older versions have no tag.
    pub(super) fn check(&self, path: &Path, tag: &Tag) -> Result<(), TrainError> {
        let differ = |mine: &Option<String>, other: &Option<String>| {
            mine.is_some() && other.is_some() && mine != other
        };
        let mine = self.tag(path);
        let damaged = |reason: String| TrainError::Damaged {
            path: path.to_owned(),
            reason,
        };
        if differ(&mine.name, &tag.name) {
            let name = tag.name.as_deref().unwrap_or_default();
            return Err(damaged(format!("it is `{name}` under another name")));
        }
        if differ(&mine.run, &tag.run) {
            return Err(damaged("it belongs to another run".to_owned()));
        }
        // Older versions did not write the kind of a model.
        let is_new = |it: &Difference| it.setting == "kind" && it.then.is_null();
        if let (Some(then), Some(now)) = (&tag.model, &mine.model)
            && let Some(difference) = differences(then, now).into_iter().find(|it| !is_new(it))
        {
            let Difference { setting, then, now } = difference;
            return Err(TrainError::OtherWeights {
                path: path.to_owned(),
                reason: format!(
                    "`{setting}` was {then} when they were written and is {now} now: put {then} back"
                ),
            });
        }
        Ok(())
    }
}

/// Settings that change how a model is trained or computed, but not the meaning of its weights.
const FREE: [&str; 10] = [
    "dropout",
    "attention_dropout",
    "local_attention_dropout",
    "precision",
    "initializer",
    "embedding_std",
    "ff_chunk_length",
    "loss_chunk_length",
    "fixed_rotations",
    "max_answer_length",
];

/// A setting that differs between two configurations of a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Difference {
    /// Its path.
    pub(crate) setting: String,
    pub(crate) then: Value,
    pub(crate) now: Value,
}

/// The settings in which two configurations of a model differ so that the same weights compute
/// different results.
pub(crate) fn differences(then: &Value, now: &Value) -> Vec<Difference> {
    fn descend(path: &str, then: &Value, now: &Value, found: &mut Vec<Difference>) {
        if let (Value::Object(then), Value::Object(now)) = (then, now) {
            let names: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
            for name in names {
                if FREE.contains(&name.as_str()) {
                    continue;
                }
                let [then, now] = [then, now].map(|of| of.get(name).unwrap_or(&Value::Null));
                descend(&setting_below(path, name), then, now, found);
            }
            return;
        }
        // These two compute the same function; the second uses more memory.
        let is_reversible = |mode: &Value| mode == "Reversible" || mode == "Plain";
        let is_same_mode = path.ends_with("mode") && is_reversible(then) && is_reversible(now);
        if then != now && !is_same_mode {
            found.push(Difference {
                setting: path.to_owned(),
                then: then.clone(),
                now: now.clone(),
            });
        }
    }
    let mut found = Vec::new();
    descend("", then, now, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_that_weights_depend_on_are_found() {
        let then = json!({"reformer": {"n_heads": 2, "dropout": 0.1, "mode": "Reversible"}});
        let with = |name: &str, value: Value| {
            let mut now = then.clone();
            now["reformer"][name] = value;
            let found = differences(&then, &now).into_iter().next();
            found.map(|difference| difference.setting)
        };
        assert_eq!(
            with("n_heads", json!(4)).as_deref(),
            Some("reformer.n_heads")
        );
        assert_eq!(
            with("causal", json!(true)).as_deref(),
            Some("reformer.causal")
        );
        assert_eq!(
            with("mode", json!("Ordinary")).as_deref(),
            Some("reformer.mode")
        );
        assert_eq!(with("mode", json!("Plain")), None);
        assert_eq!(with("dropout", json!(0.5)), None);
    }
}
