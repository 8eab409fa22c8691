//! Configurations that older versions wrote.

use serde_json::{Map, Value};

/// Adds missing settings to every stack of layers in the configuration.
pub(super) fn complete(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::Object(lsh)) = fields.get_mut("lsh") {
                add(lsh, ["fixed_rotations", "local_round", "hash_rotated"]);
                add(fields, ["rotary_local_only"]);
            }
            // Data and positions have settings of their own.
            for (kind, name) in [
                ("ReturningPassages", "backwards"),
                ("Learned", "sinusoidal"),
            ] {
                if let Some(Value::Object(settings)) = fields.get_mut(kind) {
                    add(settings, [name]);
                }
            }
            fields.values_mut().for_each(complete);
        }
        Value::Array(values) => values.iter_mut().for_each(complete),
        _ => {}
    }
}

fn add<const N: usize>(fields: &mut Map<String, Value>, names: [&str; N]) {
    for name in names {
        fields.entry(name).or_insert(Value::Bool(false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataConfig, TrainConfig};
    use reformer_core::model::{ReformerConfig, ReformerLmConfig};
    use reformer_core::position::PositionConfig;

    #[test]
    fn what_a_version_did_not_have_is_off() {
        let reformer = ReformerConfig::new(256, 32, 2).with_position(PositionConfig::Learned {
            max_length: 64,
            std: 1.0,
            sinusoidal: false,
        });
        let model = ReformerLmConfig::new(reformer).into();
        let data = DataConfig::ReturningPassages {
            n_symbols: 9,
            shortest: 2,
            longest: 3,
            backwards: false,
        };
        let mut expected = TrainConfig::new(model, data);
        let lsh = &mut expected.model.reformer_mut().lsh;
        (lsh.local_round, lsh.hash_rotated) = (false, false);
        let mut older = serde_json::to_value(&expected).unwrap();
        let text = serde_json::to_vec(&older).unwrap();
        assert_eq!(TrainConfig::from_json(&text).unwrap(), expected);

        let reformer = &mut older["model"]["reformer"];
        let names = ["fixed_rotations", "local_round", "hash_rotated"];
        for name in names {
            reformer["lsh"]
                .as_object_mut()
                .unwrap()
                .remove(name)
                .unwrap();
        }
        let fields = reformer.as_object_mut().unwrap();
        fields.remove("rotary_local_only").unwrap();
        let learned = fields["position"]["Learned"].as_object_mut().unwrap();
        learned.remove("sinusoidal").unwrap();
        let passages = older["data"]["ReturningPassages"].as_object_mut().unwrap();
        passages.remove("backwards").unwrap();
        let text = serde_json::to_vec(&older).unwrap();
        assert_eq!(TrainConfig::from_json(&text).unwrap(), expected);

        older["model"]["reformer"]["d_model"] = Value::Null;
        let text = serde_json::to_vec(&older).unwrap();
        assert!(TrainConfig::from_json(&text).is_err());
    }
}
