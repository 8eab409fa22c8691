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
