//! Names of settings.

/// The path of a setting below another one, as `--set` takes it; the path of the whole configuration is empty.
///
/// ```
/// use reformer_train::record::setting_below;
///
/// assert_eq!(setting_below("", "model"), "model");
/// assert_eq!(setting_below("model", "reformer"), "model.reformer");
/// ```
pub fn setting_below(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    }
}
