//! Names of settings.

/// Similarity (Jaro-Winkler) from which a name is taken for a misspelling of another one.
const ALIKE: f64 = 0.8;

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

/// Whether a setting is another one or a part of it, by their paths.
///
/// ```
/// use reformer_train::record::is_within;
///
/// assert!(is_within("schedule.Cosine.rate", "schedule") && is_within("steps", "steps"));
/// assert!(!is_within("steps_per_epoch", "steps"));
/// ```
pub fn is_within(setting: &str, whole: &str) -> bool {
    let rest = setting.strip_prefix(whole);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The one of some names that another name is probably a misspelling of, if there is one.
///
/// ```
/// use reformer_train::record::nearest_name;
///
/// assert_eq!(nearest_name("batch_sizes", ["seed", "batch_size"]), Some("batch_size"));
/// assert_eq!(nearest_name("nonsense", ["seed", "batch_size"]), None);
/// ```
pub fn nearest_name<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let names = names.into_iter();
    let rated = names.map(|own| (strsim::jaro_winkler(own, name), own));
    let (likeness, nearest) = rated.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (likeness >= ALIKE).then_some(nearest)
}
