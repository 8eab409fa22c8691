//! `--set key=value`: any setting of a configuration, by its path in `config.json`.

use anyhow::{Context, Result, bail};
use reformer_train::record::{is_within, parse_settings};
use reformer_train::{SettingError, TrainConfig};
use serde_json::Value;

/// Changes a configuration by all `--set` of a command line, none of which may undo an earlier one.
///
/// # Errors
/// A setting that is given twice, or those of [`apply`].
pub(crate) fn apply_flags(config: TrainConfig, sets: &[String]) -> Result<TrainConfig> {
    let mut given: Vec<&str> = Vec::new();
    // One without `=` is refused when it is applied.
    for (set, (key, _)) in sets
        .iter()
        .filter_map(|set| Some((set, set.split_once('=')?)))
    {
        match given.iter().find(|earlier| is_within(earlier, key)) {
            None => given.push(key),
            Some(earlier) if *earlier == key => {
                bail!("`--set {set}`: `{key}` is given twice: remove one");
            }
            Some(earlier) => bail!(
                "`--set {set}`: it replaces `{earlier}`, which is given before: give `{key}` first, or remove one"
            ),
        }
    }
    apply(config, sets)
}

/// Changes a configuration; of equal settings the last one counts. A value is parsed as JSON, or else taken as text.
///
/// # Errors
/// A change without `=`, an unknown setting, or a value that it cannot have.
pub(crate) fn apply(config: TrainConfig, sets: &[String]) -> Result<TrainConfig> {
    sets.iter().try_fold(config, |config, set| {
        let Some((key, value)) = set.split_once('=') else {
            bail!("`--set {set}` has no `=`: write it as key=value");
        };
        let value = match parse_settings(value.as_bytes()) {
            Err(SettingError::NotJson(_)) => Ok(Value::from(value)),
            parsed => parsed,
        };
        // One at a time, so that the message names the wrong one.
        let changed = value.and_then(|value| config.with_setting(key, value));
        changed.with_context(|| format!("`--set {set}`"))
    })
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
    fn no_flag_undoes_an_earlier_one() {
        let apply = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
            apply_flags(preset::load("tiny")?, &sets)
        };
        let refused = |sets: &[&str]| format!("{:#}", apply(sets).unwrap_err());
        // Another value or the same one.
        for set in ["steps=4", "steps=3"] {
            let said = format!("`--set {set}`: `steps` is given twice: remove one");
            assert_eq!(refused(&["steps=3", "seed=1", set]), said);
        }
        let whole = r#"schedule={"Constant":{"rate":0.1,"warmup_steps":0}}"#;
        let part = "schedule.Constant.rate=0.5";
        let error = refused(&["schedule.Cosine.rate=0.5", whole]);
        let said = "it replaces `schedule.Cosine.rate`, which is given before: give `schedule` first, or remove one";
        assert!(error.ends_with(said), "{error}");
        let changed = apply(&[whole, part, "steps=3", "steps_per_epoch=2"]).unwrap();
        assert_eq!(changed.schedule.rate(7, 1000), 0.5);
        assert_eq!((changed.steps, changed.steps_per_epoch), (3, 2));
        assert!(refused(&["steps", "seed"]).contains("has no `=`"));
    }

    #[test]
    fn what_cannot_be_set_is_named() {
        for (set, part) in [
            ("steps", "has no `=`"),
            (
                "step=3",
                "there is no setting `step`: did you mean `steps`?",
            ),
            (
                "nonsense=3",
                "there is no setting `nonsense`: use one of accumulate, bad_loss",
            ),
            ("steps.x=3", "plain value"),
            (
                "steps=many",
                "`--set steps=many`: `steps` cannot be \"many\": it has to be a whole number",
            ),
            ("schedule=3", "it has to be one of `Constant`, `Linear`"),
            (
                r#"data={"Duplication":{"n_symbols":9,"n_symbols":9}}"#,
                "`Duplication.n_symbols` is given twice: remove one",
            ),
            (
                r#"optimizer={"Adam":{"beta1":0.9}}"#,
                "there is no setting `optimizer.Adam.beta1`: did you mean `optimizer.Adam.beta_1`?",
            ),
            ("weight_decay.+0.rate=0", "counted from 0"),
        ] {
            let error = format!("{:#}", with(set).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
    }
}
