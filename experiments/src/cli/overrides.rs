//! `--set key=value`: any setting of a configuration, by its path in `config.json`.

use anyhow::{Context, Result, bail};
use reformer_train::TrainConfig;
use serde_json::Value;

/// Changes a configuration. A value is parsed as JSON, or else taken as text.
///
/// # Errors
/// A change without `=`, an unknown setting, or a value that it cannot have.
pub(crate) fn apply(mut config: TrainConfig, sets: &[String]) -> Result<TrainConfig> {
    let mut json = serde_json::to_value(&config)?;
    for set in sets {
        let Some((key, value)) = set.split_once('=') else {
            bail!("`--set {set}` has no `=`: write it as key=value");
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        *find(&mut json, key)? = value;
        // One at a time, so that the message names the wrong one. Settings that an older version did not have
        // may be left out, as in its config.json.
        config = TrainConfig::from_json(json.to_string().as_bytes())
            .with_context(|| format!("`--set {set}` is not a value that `{key}` can have"))?;
        json = serde_json::to_value(&config)?;
    }
    Ok(config)
}

/// Finds a setting by its path.
fn find<'a>(json: &'a mut Value, key: &str) -> Result<&'a mut Value> {
    let mut place = json;
    for part in key.split('.') {
        let Value::Object(fields) = place else {
            bail!("there is no setting `{key}`: what is before `.{part}` is a plain value");
        };
        let names: Vec<&str> = fields.keys().map(String::as_str).collect();
        let names = names.join(", ");
        place = fields.get_mut(part).with_context(|| {
            format!("there is no setting `{key}`: instead of `{part}` use one of {names}")
        })?;
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::preset;
    use reformer_core::position::PositionConfig;
    use reformer_train::DataConfig;

    fn with(set: &str) -> Result<TrainConfig> {
        apply(preset::load("tiny")?, &[set.to_owned()])
    }

    #[test]
    fn numbers_texts_and_structures_can_be_set() {
        let schedule = with("schedule.Cosine.rate=0.5").unwrap().schedule;
        assert_eq!(schedule.rate(schedule.warmup_steps(), 1000), 0.5);
        let constant = with(r#"schedule={"Constant": {"rate": 0.1, "warmup_steps": 0}}"#);
        assert_eq!(constant.unwrap().schedule.rate(7, 1000), 0.1);
        assert_eq!(with("patience=3").unwrap().patience, Some(3));
        let learned = r#"model.reformer.position={"Learned":{"max_length":256,"std":0.02}}"#;
        assert_eq!(
            with(learned).unwrap().model.reformer().position,
            PositionConfig::Learned {
                max_length: 256,
                std: 0.02,
                sinusoidal: false
            }
        );
        assert_eq!(with("data=Sample").unwrap().data, DataConfig::Sample);
        let data = with(r#"data={"Duplication": {"n_symbols": 9}}"#)
            .unwrap()
            .data;
        assert_eq!(data, DataConfig::Duplication { n_symbols: 9 });
        let sets = ["steps=10", "model.reformer.lsh.n_rounds=8"].map(str::to_owned);
        let both = apply(preset::load("tiny").unwrap(), &sets).unwrap();
        assert_eq!((both.steps, both.model.reformer().lsh.n_rounds), (10, 8));
    }

    #[test]
    fn what_cannot_be_set_is_named() {
        for (set, part) in [
            ("steps", "has no `=`"),
            (
                "step=3",
                "instead of `step` use one of accumulate, bad_loss",
            ),
            ("steps.x=3", "plain value"),
            ("steps=many", "`--set steps=many`"),
        ] {
            let error = with(set).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
