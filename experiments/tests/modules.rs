//! Whether the modules of a crate form layers: no circle of `use` between those at its top.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

type Uses = BTreeMap<String, BTreeSet<String>>;

/// The source files below a path.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).expect("a source of this workspace");
    let files =
        entries.flat_map(|entry| sources(&entry.expect("a source of this workspace").path()));
    files
        .filter(|file| file.extension().is_some_and(|end| end == "rs"))
        .collect()
}

/// The names after `crate::` in a source without its tests and comments.
fn used(source: &str) -> BTreeSet<String> {
    let tests = Regex::new(r"\n#\[cfg\(.*test.*\)\]\n(pub )?mod tests").expect("a pattern");
    let code = tests.split(source).next().unwrap_or_default();
    let code: String = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect();
    let name = Regex::new(r"\bcrate::(\w+)").expect("a pattern");
    let names = name.captures_iter(&code).map(|found| found[1].to_owned());
    let braces = Regex::new(r"\bcrate::\{((?:[^{}]|\{[^{}]*\})*)\}").expect("a pattern");
    let first = Regex::new(r"(?:^|,)\s*(\w+)").expect("a pattern");
    let inner = Regex::new(r"\{[^{}]*\}").expect("a pattern");
    let in_braces = braces.captures_iter(&code).flat_map(|found| {
        let items = inner.replace_all(&found[1], "").into_owned();
        let items = first.captures_iter(&items);
        items.map(|item| item[1].to_owned()).collect::<Vec<_>>()
    });
    names.chain(in_braces).collect()
}

/// Which modules at the top of a crate use which others.
fn uses(crate_name: &str) -> Uses {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../{crate_name}/src"));
    let entries = fs::read_dir(&source)
        .expect("a source of this workspace")
        .map(|entry| entry.expect("a source of this workspace").path());
    let paths: Vec<PathBuf> = entries
        .filter(|path| !path.ends_with("lib.rs") && !path.ends_with("bin"))
        .collect();
    let name = |path: &Path| {
        path.file_stem()
            .expect("a source of this workspace")
            .to_str()
            .expect("a source of this workspace")
            .to_owned()
    };
    let modules: BTreeSet<String> = paths.iter().map(|path| name(path)).collect();
    // An item at the root of the crate stands for the module that it comes from.
    let root = fs::read_to_string(source.join("lib.rs")).expect("a source of this workspace");
    let exports = Regex::new(r"(?m)^pub use (\w+)::([^;]*);").expect("a pattern");
    let word = Regex::new(r"\w+").expect("a pattern");
    let origin: BTreeMap<String, String> = exports
        .captures_iter(&root)
        .flat_map(|found| {
            let names: Vec<&str> = word
                .find_iter(found.get(2).expect("a source of this workspace").as_str())
                .map(|m| m.as_str())
                .collect();
            let module = found[1].to_owned();
            names
                .into_iter()
                .map(move |name| (name.to_owned(), module.clone()))
                .collect::<Vec<_>>()
        })
        .collect();
    let of_module = |path: &PathBuf| {
        let own = name(path);
        let texts = sources(path)
            .into_iter()
            .map(|file| fs::read_to_string(file).expect("a source of this workspace"));
        let used = texts.flat_map(|text| used(&text));
        let used = used.map(|name| match modules.contains(&name) {
            true => name,
            false => origin.get(&name).cloned().unwrap_or(name),
        });
        let others = used.filter(|other| *other != own && modules.contains(other));
        (own.clone(), others.collect())
    };
    paths.iter().map(of_module).collect()
}

/// The modules that are left when all are removed, again and again, that use none of the rest: those of circles, and
/// what is above them.
fn in_circles(mut uses: Uses) -> BTreeSet<String> {
    loop {
        let free: Vec<String> = uses
            .iter()
            .filter(|(_, others)| others.is_empty())
            .map(|(module, _)| module.clone())
            .collect();
        if free.is_empty() {
            return uses.into_keys().collect();
        }
        for module in &free {
            uses.remove(module);
            for others in uses.values_mut() {
                others.remove(module);
            }
        }
    }
}

#[test]
fn modules_form_layers() {
    for crate_name in ["reformer-core", "datasets", "reformer-train", "experiments"] {
        let uses = uses(crate_name);
        assert!(uses.len() > 5, "{crate_name}: {uses:?}");
        let circles = in_circles(uses);
        assert!(circles.is_empty(), "{crate_name}: circles in {circles:?}");
    }
}

#[test]
fn circles_are_found() {
    let uses = |pairs: &[(&str, &[&str])]| -> Uses {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        pairs
            .iter()
            .map(|(module, others)| ((*module).to_owned(), names(others)))
            .collect()
    };
    let layers = uses(&[("a", &[]), ("b", &["a"]), ("c", &["a", "b"])]);
    assert!(in_circles(layers).is_empty());
    let circle = uses(&[("a", &["c"]), ("b", &[]), ("c", &["a", "b"])]);
    assert_eq!(in_circles(circle).len(), 2);
    let source = "use crate::{b::{X, Y}, c};\n// crate::d\nfn f() { crate::e::g() }\n#[cfg(test)]\nmod tests { use crate::h; }";
    let found: Vec<String> = used(source).into_iter().collect();
    assert_eq!(found, ["b", "c", "e"]);
}
