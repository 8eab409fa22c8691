//! Tests of reading and changing configurations.

use super::*;
use crate::data::{PairFiles, PairsConfig};
use reformer_core::model::{
    MaskingConfig, ReformerClassifierConfig, ReformerConfig, ReformerLmConfig,
    ReformerSeq2SeqConfig,
};
use serde_json::json;

fn config() -> TrainConfig {
    let model = ReformerLmConfig::new(ReformerConfig::new(256, 32, 2));
    TrainConfig::new(model.into(), DataConfig::Sample)
}

fn refused(settings: &Value) -> String {
    let read = TrainConfig::from_json(settings.to_string().as_bytes());
    read.unwrap_err().to_string()
}

#[test]
fn unknown_settings_are_refused_with_the_nearest_one() {
    let own = serde_json::to_value(config()).unwrap();
    let read = TrainConfig::from_json(own.to_string().as_bytes());
    assert_eq!(read.unwrap(), config());
    for (pointer, name, said) in [
        (
            "",
            "batch_sizes",
            "there is no setting `batch_sizes`: did you mean `batch_size`?",
        ),
        (
            "/model/reformer/lsh",
            "n_round",
            "there is no setting `model.reformer.lsh.n_round`: did you mean `model.reformer.lsh.n_rounds`?",
        ),
        (
            "/optimizer/Adam",
            "gamma",
            "there is no setting `optimizer.Adam.gamma`: use one of beta_1, beta_2, epsilon",
        ),
        (
            "/weight_decay/0",
            "rates",
            "there is no setting `weight_decay.0.rates`: did you mean `weight_decay.0.rate`?",
        ),
    ] {
        let mut settings = own.clone();
        settings.pointer_mut(pointer).unwrap()[name] = 3.into();
        assert_eq!(refused(&settings), said);
        // What is not set has no effect.
        settings.pointer_mut(pointer).unwrap()[name] = Value::Null;
        TrainConfig::from_json(settings.to_string().as_bytes()).unwrap();
    }
}

#[test]
fn models_of_older_versions_have_no_kind_and_no_unknown_settings_either() {
    let mut older = serde_json::to_value(config()).unwrap();
    let model = older["model"].as_object_mut().unwrap();
    model.remove("kind").unwrap();
    let read = TrainConfig::from_json(older.to_string().as_bytes());
    assert_eq!(read.unwrap(), config());
    for (pointer, name, said) in [
        ("", "stepz", "`stepz`: did you mean `steps`?"),
        (
            "/model",
            "loss_chunk_lengths",
            "`model.loss_chunk_lengths` is not a setting of a language model: remove it",
        ),
        (
            "/model/reformer",
            "n_layer",
            "`model.reformer.n_layer`: did you mean `model.reformer.n_layers`?",
        ),
        (
            "/model/reformer/lsh",
            "n_round",
            "`model.reformer.lsh.n_round`: did you mean `model.reformer.lsh.n_rounds`?",
        ),
    ] {
        let mut settings = older.clone();
        settings.pointer_mut(pointer).unwrap()[name] = 3.into();
        let message = refused(&settings);
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn names_that_are_misspelt_in_a_whole_value_are_told_instead_of_those_that_are_missing() {
    for (setting, value, said) in [
        (
            "optimizer",
            json!({"Adam": {"beta1": 0.9}}),
            "there is no setting `optimizer.Adam.beta1`: did you mean `optimizer.Adam.beta_1`?",
        ),
        (
            "optimizer",
            json!({"Sgd": {"momentun": 0.9}}),
            "there is no setting `optimizer.Sgd.momentun`: did you mean `optimizer.Sgd.momentum`?",
        ),
        (
            "optimizer.Adam",
            json!({"beta1": 0.9}),
            "there is no setting `optimizer.Adam.beta1`: did you mean `optimizer.Adam.beta_1`?",
        ),
        (
            "weight_decay",
            json!([{"rates": 0.5}]),
            "there is no setting `weight_decay.0.rates`: did you mean `weight_decay.0.rate`?",
        ),
        (
            "optimizer",
            json!({"Adam": {"beta_2": 0.9}}),
            "`optimizer` cannot be {\"Adam\":{\"beta_2\":0.9}}: `beta_1` is missing: add it",
        ),
        (
            "schedule",
            json!({"Constant": {"rat": 0.9}}),
            "`schedule` cannot be {\"Constant\":{\"rat\":0.9}}: `rate` is missing: add it",
        ),
    ] {
        let error = config().with_setting(setting, value.clone()).unwrap_err();
        assert_eq!(error.to_string(), said);
        if !setting.contains('.') {
            let mut settings = serde_json::to_value(config()).unwrap();
            settings[setting] = value;
            assert_eq!(refused(&settings), said);
        }
    }
}

#[test]
fn wrong_values_are_named_with_those_that_are_right() {
    let own = serde_json::to_value(config()).unwrap();
    for (pointer, value, said) in [
        (
            "/steps",
            json!("many"),
            "`steps` cannot be \"many\": it has to be a whole number",
        ),
        (
            "/model",
            json!(3),
            "`model` cannot be 3: it has to be an object with kind, ",
        ),
        (
            "/model/kind",
            json!("lmm"),
            "it has to be one of `lm`, `seq2seq`",
        ),
        (
            "/schedule",
            json!(3),
            "`schedule` cannot be 3: it has to be one of `Constant`, `Linear`",
        ),
        (
            "/optimizer/Adam/beta_1",
            json!("x"),
            "`optimizer` cannot be {\"Adam\":{\"beta_1\":\"x\"",
        ),
        (
            "/model/reformer/layers",
            json!(["X"]),
            "it has to be one of `Lsh`, `Local`, `Full`",
        ),
    ] {
        let mut settings = own.clone();
        *settings.pointer_mut(pointer).unwrap() = value;
        let message = refused(&settings);
        assert!(message.contains(said), "{message}");
        assert!(
            !message.contains("Serde") && !message.contains("Config"),
            "{message}"
        );
    }
    assert_eq!(refused(&json!({"steps": 3})), "`model` is missing: add it");
    assert_eq!(refused(&json!([])), "it has to be an object with settings");
    let own = serde_json::to_string(&config()).unwrap();
    for (name, setting) in [
        ("steps", "steps"),
        ("n_layers", "model.reformer.n_layers"),
        ("beta_1", "optimizer.Adam.beta_1"),
    ] {
        // The same value, even.
        let at = own.find(&format!("\"{name}\":")).unwrap();
        let end = at + own[at..].find([',', '}']).unwrap();
        let text = format!("{},{}", &own[..end], &own[at..]);
        let twice = TrainConfig::from_json(text.as_bytes()).unwrap_err();
        let said = format!("`{setting}` is given twice: remove one");
        assert_eq!(twice.to_string(), said);
    }
    let text = TrainConfig::from_json(b"{").unwrap_err();
    assert!(matches!(text, SettingError::NotJson(_)), "{text}");
}

#[test]
fn missing_settings_are_told_by_their_path_and_misspelt_ones_instead_of_them() {
    let own = serde_json::to_value(config()).unwrap();
    for (pointer, name, misspelt) in [
        ("", "data", "dat"),
        ("/model", "loss_chunk_length", "loss_chunk_lenght"),
        ("/model/reformer", "d_model", "d_modle"),
        ("/model/reformer/lsh", "n_rounds", "n_round"),
        ("/model/reformer/local", "chunk_length", "chunk_lengths"),
    ] {
        let path = |name| {
            let path = format!("{pointer}/{name}").replace('/', ".");
            path[1..].to_owned()
        };
        let mut settings = own.clone();
        let object = settings.pointer_mut(pointer).unwrap();
        let value = object.as_object_mut().unwrap().remove(name).unwrap();
        let said = format!("`{}` is missing: add it", path(name));
        assert_eq!(refused(&settings), said);
        settings.pointer_mut(pointer).unwrap()[misspelt] = value;
        let said = format!(
            "there is no setting `{}`: did you mean `{}`?",
            path(misspelt),
            path(name)
        );
        assert_eq!(refused(&settings), said);
    }
    // Of a version that did not have all settings, those are not what is missing.
    let mut older = own.clone();
    let reformer = older["model"]["reformer"].as_object_mut().unwrap();
    reformer.remove("d_model").unwrap();
    reformer.remove("rotary_local_only").unwrap();
    assert_eq!(
        refused(&older),
        "`model.reformer.d_model` is missing: add it"
    );
}

#[test]
fn settings_by_paths_are_given_once() {
    let layers = |n: usize| json!({"reformer": {"n_layers": n}});
    for settings in [
        json!({"model": layers(2), "model.reformer.n_layers": 3}),
        json!({"model": layers(2), "model.reformer.n_layers": 2}),
        json!({"model": {"reformer.n_layers": 2}, "model.reformer": {"n_layers": 3}}),
    ] {
        let error = config().with_settings(&settings).unwrap_err();
        let said = "`model.reformer.n_layers` is given twice: remove one";
        assert_eq!(error.to_string(), said);
    }
    let part = json!({"optimizer.Adam.beta_1": 0.5, "optimizer": {"Adam": {"beta_1": 0.9}}});
    let error = config().with_settings(&part).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`optimizer.Adam.beta_1` is given beside `optimizer`, which it is a part of: remove one"
    );
    let apart = json!({"model": layers(5), "model.reformer.d_model": 64, "steps": 7});
    let changed = config().with_settings(&apart).unwrap();
    let reformer = changed.model.reformer();
    assert_eq!(
        [changed.steps, reformer.n_layers, reformer.d_model],
        [7, 5, 64]
    );
}

/// The paths of all values, and of all objects and lists of them.
fn paths(value: &Value, path: &str) -> Vec<String> {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(k, v)| (k.clone(), v)).collect(),
        Value::Array(items) => (0..)
            .zip(items)
            .map(|(n, v): (usize, _)| (n.to_string(), v))
            .collect(),
        _ => vec![],
    };
    let below = below
        .iter()
        .flat_map(|(name, value)| paths(value, &setting_below(path, name)));
    let own = (!path.is_empty()).then(|| path.to_owned());
    own.into_iter().chain(below).collect()
}

#[test]
fn no_setting_is_told_in_names_of_types() {
    let reformer = ReformerConfig::new(256, 32, 2);
    let configs = [
        config().with_masking(Some(MaskingConfig::new(257, 256))),
        TrainConfig::new(
            ReformerSeq2SeqConfig::new(reformer.clone()).into(),
            DataConfig::Pairs(PairsConfig::new(PairFiles::Sample)),
        ),
        TrainConfig::new(
            ReformerClassifierConfig::new(reformer, 3).into(),
            DataConfig::Images {
                path: "a".into(),
                size: 8,
            },
        ),
    ];
    let of_rust = [
        "u8", "u16", "u32", "u64", "usize", "i8", "i16", "i32", "i64", "isize", "f32", "f64",
        "char", "bool", "struct", "enum", "variant", "tuple", "newtype", "sequence", "map",
        "array",
    ];
    for config in configs {
        let settings = serde_json::to_value(&config).unwrap();
        let paths = paths(&settings, "");
        assert!(paths.len() > 40, "{paths:?}");
        for path in paths {
            for value in [json!("x"), json!(3), json!([]), json!({})] {
                let Err(error) = config.with_setting(&path, value) else {
                    continue;
                };
                let SettingError::Value { reason, .. } = error else {
                    panic!("{path}: {error}");
                };
                let mut words = reason.split(|c: char| !c.is_alphanumeric());
                let found = words.find(|word| of_rust.contains(word));
                assert_eq!(found, None, "{path}: {reason}");
                let is_of_code = reason.contains("Config") || reason.contains("::");
                assert!(!is_of_code, "{path}: {reason}");
            }
        }
    }
}

#[cfg(unix)]
#[test]
fn paths_that_json_cannot_hold_are_refused() {
    use std::os::unix::ffi::OsStringExt;

    let name = std::ffi::OsString::from_vec(vec![0xff]);
    let config = TrainConfig {
        data: DataConfig::File(name.into()),
        ..config()
    };
    let error = config.with_setting("steps", 3.into()).unwrap_err();
    assert!(matches!(error, SettingError::NotText(_)), "{error}");
    assert!(error.to_string().ends_with("rename the file or folder"));
}

#[test]
fn wrong_values_of_every_kind_are_found() {
    let reformer = ReformerConfig::new(256, 32, 2);
    let model = ReformerClassifierConfig::new(reformer, 3);
    let config = TrainConfig::new(model.into(), DataConfig::Sample);
    let mut settings = serde_json::to_value(config).unwrap();
    settings["model"]["n_classes"] = "few".into();
    let message = refused(&settings);
    assert!(
        message.starts_with("`model.n_classes` cannot be \"few\""),
        "{message}"
    );
}

#[test]
fn settings_are_changed_one_by_one() {
    let settings = json!({"steps": 7, "model": {"reformer": {"n_layers": 5}}});
    let mut expected = config().with_steps(7);
    expected.model.reformer_mut().n_layers = 5;
    assert_eq!(config().with_settings(&settings).unwrap(), expected);
    let changed = config().with_setting("weight_decay.1.rate", json!(0.5));
    assert_eq!(changed.unwrap().weight_decay[1].rate, 0.5);
    for (setting, said) in [
        ("steps.x", "`steps` is a plain value: set `steps` itself"),
        (
            "weight_decay.2.rate",
            "`weight_decay` is a list of 2, counted from 0: set `weight_decay` itself",
        ),
        (
            "weight_decay.first",
            "`weight_decay` is a list of 2, counted from 0: set `weight_decay` itself",
        ),
        (
            "weight_decay.+0.rate",
            "`weight_decay` is a list of 2, counted from 0: set `weight_decay` itself",
        ),
        (
            "weight_decay.00.rate",
            "`weight_decay` is a list of 2, counted from 0: set `weight_decay` itself",
        ),
        (
            "weight_decay.0.rates",
            "did you mean `weight_decay.0.rate`?",
        ),
    ] {
        let error = config().with_setting(setting, 3.into()).unwrap_err();
        let expected = format!("there is no setting `{setting}`: {said}");
        assert_eq!(error.to_string(), expected);
    }
    let error = config().with_settings(&json!(3)).unwrap_err().to_string();
    assert_eq!(error, "it has to be an object with settings");
}
