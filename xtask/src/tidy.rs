//! The rules that the compiler does not know: who may depend on whom, and how files are written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::run::{Result, cargo, output, root, say};

/// Who may depend on which of our crates (DESIGN section 2), dev-dependencies aside.
const LAYERS: [(&str, &[&str]); 10] = [
    ("everfresh-domain", &[]),
    ("everfresh-application", &["everfresh-domain"]),
    ("everfresh-infrastructure", &["everfresh-application", "everfresh-domain"]),
    ("everfresh-presentation", &["everfresh-application", "everfresh-domain"]),
    ("everfresh-testkit", &["everfresh-application", "everfresh-domain"]),
    ("everfresh-browser", &[]),
    ("everfresh-tray", &["everfresh-browser", "everfresh-domain"]),
    (
        "everfresh",
        &[
            "everfresh-application",
            "everfresh-browser",
            "everfresh-domain",
            "everfresh-infrastructure",
            "everfresh-presentation",
            "everfresh-testkit",
        ],
    ),
    ("everfresh-e2e", &["everfresh-domain", "everfresh-testkit"]),
    ("xtask", &[]),
];

/// Crates of others that belong to certain layers only.
const PLACES: [(&str, &[&str]); 18] = [
    ("sled", &["everfresh-infrastructure"]),
    ("zbus", &["everfresh-infrastructure"]),
    ("notify-rust", &["everfresh-infrastructure"]),
    ("oauth2", &["everfresh-infrastructure"]),
    ("reqwest", &["everfresh-infrastructure", "everfresh", "everfresh-tray", "everfresh-e2e"]),
    ("axum", &["everfresh-presentation", "everfresh"]),
    ("hyper", &["everfresh-infrastructure", "everfresh-presentation", "everfresh-testkit"]),
    ("clap", &["everfresh", "everfresh-tray", "xtask"]),
    ("governor", &["everfresh-application"]),
    ("pulldown-cmark", &["everfresh-presentation", "everfresh"]),
    ("jsonwebtoken", &["everfresh-infrastructure", "everfresh-testkit"]),
    ("jsonc-parser", &["everfresh"]),
    ("saphyr", &["everfresh"]),
    ("toml_edit", &["everfresh"]),
    ("open", &["everfresh-browser"]),
    ("ksni", &["everfresh-tray"]),
    ("tray-icon", &["everfresh-tray"]),
    ("winit", &["everfresh-tray"]),
];

/// What the domain must not have, also not through others.
const NOT_IN_DOMAIN: [&str; 6] = ["tokio", "reqwest", "hyper", "sled", "async-trait", "rand"];

/// Lines of a file at most.
const LINES_MAX: usize = 600;

/// What no source may contain. Split, so that this list does not contain it either.
const FORBIDDEN: [(&str, &str); 6] = [
    (concat!("TO", "DO"), "do it, or open an issue"),
    (concat!("FIX", "ME"), "fix it, or open an issue"),
    (concat!("todo", "!("), "no stub is called done"),
    (concat!("unimplemented", "!("), "no stub is called done"),
    (concat!("#[", "ignore"), "assert what is, and say why"),
    (concat!("#[", "allow("), "use #[expect(.., reason = ..)]"),
];

/// Checks all rules, and tells every breach.
pub(crate) fn tidy() -> Result {
    say("tidy: layers, places, texts");
    let metadata = output(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&metadata).map_err(|error| error.to_string())?;
    let mut breaches = dependency_breaches(&dependencies(&metadata));
    let tree = ["tree", "--package", "everfresh-domain", "--edges", "normal", "--no-dedupe", "--prefix", "none"];
    breaches.extend(domain_breaches(&output(cargo().args(tree))?));
    for path in sources(&root())? {
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let name = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        breaches.extend(text_breaches(&name, &text));
    }
    breaches.extend(link_breaches()?);
    if breaches.is_empty() {
        return Ok(());
    }
    Err(format!("{} breaches of the rules:\n{}", breaches.len(), breaches.join("\n")))
}

/// Package and what it depends on, without dev-dependencies.
fn dependencies(metadata: &Value) -> BTreeMap<String, Vec<String>> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let named = packages.map(|package| {
        let kept = package["dependencies"].as_array().into_iter().flatten().filter(|found| found["kind"] != "dev");
        let names = kept.filter_map(|found| Some(found["name"].as_str()?.to_owned())).collect();
        (package["name"].as_str().unwrap_or_default().to_owned(), names)
    });
    named.collect()
}

fn dependency_breaches(found: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut breaches = Vec::new();
    for (package, names) in found {
        let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| layer == package) else {
            breaches.push(format!("{package} is in no layer; add it to the table in xtask/src/tidy.rs"));
            continue;
        };
        for name in names {
            let ours = LAYERS.iter().any(|(layer, _)| layer == name);
            if ours && !allowed.contains(&name.as_str()) {
                breaches.push(format!("{package} must not depend on {name}"));
            }
            let place = PLACES.iter().find(|(foreign, _)| foreign == name);
            if let Some((foreign, places)) = place
                && !places.contains(&package.as_str())
            {
                breaches.push(format!("{package} must not use {foreign}; that belongs to {}", places.join(", ")));
            }
        }
    }
    for (layer, _) in LAYERS {
        if !found.contains_key(layer) {
            breaches.push(format!("there is no package {layer}"));
        }
    }
    breaches
}

fn domain_breaches(tree: &str) -> Vec<String> {
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let found = NOT_IN_DOMAIN.iter().filter(|foreign| names.contains(foreign));
    found.map(|foreign| format!("everfresh-domain must build without {foreign}")).collect()
}

fn text_breaches(name: &str, text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    if name.ends_with(".rs") && !text.starts_with("//!") {
        breaches.push(format!("{name} must begin with //! and say what it is for"));
    }
    let lines = text.lines().count();
    if name.ends_with(".rs") && lines > LINES_MAX {
        breaches.push(format!("{name} has {lines} lines, and may have {LINES_MAX}"));
    }
    for (number, line) in text.lines().enumerate() {
        for (forbidden, fix) in FORBIDDEN {
            if line.contains(forbidden) && name.ends_with(".rs") {
                breaches.push(format!("{name}:{}: {forbidden}: {fix}", number + 1));
            }
        }
        if names_a_machine(line) {
            breaches.push(format!("{name}:{}: a path of one machine", number + 1));
        }
    }
    breaches
}

/// Whether a line holds a path that only one machine has: at its beginning, not in the middle.
fn names_a_machine(line: &str) -> bool {
    let folders = [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/")];
    folders
        .iter()
        .flat_map(|folder| line.match_indices(folder))
        .any(|(at, _)| line[..at].chars().next_back().is_none_or(|before| !before.is_alphanumeric()))
}

/// Every link of our documents to a file of ours leads somewhere.
fn link_breaches() -> Result<Vec<String>> {
    let mut breaches = Vec::new();
    for path in sources(&root())?.into_iter().filter(|path| path.extension().is_some_and(|end| end == "md")) {
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        for link in links(&text) {
            let (target, place) = link.split_once('#').unwrap_or((link, ""));
            let file = if target.is_empty() { path.clone() } else { folder.join(target) };
            let is_document = file.extension().is_some_and(|end| end == "md");
            let found = match std::fs::read_to_string(&file) {
                Ok(document) if is_document && !place.is_empty() => anchors(&document).contains(&place.to_owned()),
                Ok(_) => true,
                Err(_) => file.exists(),
            };
            if !found {
                breaches.push(format!("{}: the link to {link} leads nowhere", path.display()));
            }
        }
    }
    Ok(breaches)
}

/// Targets of links within the repository.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://") && !target.is_empty()).collect()
}

/// The places of a document that links can lead to: its headings, in the way of GitHub, and what is
/// marked by `<a id="...">`.
fn anchors(document: &str) -> Vec<String> {
    let headings = document
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
    let slug = |heading: &str| {
        let kept = heading
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .collect::<String>();
        kept.replace(' ', "-")
    };
    let marked = document.split("<a id=\"").skip(1).filter_map(|rest| rest.split('"').next());
    headings.map(slug).chain(marked.map(str::to_owned)).collect()
}

/// Our sources and documents.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && name != "node_modules" && name != ".git" {
                found.extend(sources(&path)?);
            }
        } else if [".rs", ".md", ".toml", ".yml", ".js", ".mjs", ".py", ".css"].iter().any(|end| name.ends_with(end)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(changes: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        let mut tree: BTreeMap<String, Vec<String>> =
            LAYERS.iter().map(|(layer, _)| ((*layer).to_owned(), Vec::new())).collect();
        for (package, names) in changes {
            tree.insert((*package).to_owned(), names.iter().map(|name| (*name).to_owned()).collect());
        }
        tree
    }

    fn check(changes: &[(&str, &[&str])], expected: Option<&str>) {
        let breaches = dependency_breaches(&tree(changes)).join("\n");
        match expected {
            None => assert_eq!(breaches, ""),
            Some(words) => assert!(breaches.contains(words), "{breaches:?}"),
        }
    }

    #[test]
    fn arrows_point_down_only() {
        check(&[("everfresh-presentation", &["everfresh-application", "axum"])], None);
        check(&[("everfresh-presentation", &["everfresh-infrastructure"])], Some("must not depend on"));
        check(&[("everfresh-infrastructure", &["everfresh-presentation"])], Some("must not depend on"));
        check(&[("everfresh-domain", &["everfresh-application"])], Some("must not depend on"));
        check(&[("everfresh-application", &["everfresh-testkit"])], Some("must not depend on"));
    }

    #[test]
    fn foreign_crates_stay_in_their_layer() {
        check(&[("everfresh-infrastructure", &["sled", "oauth2", "reqwest"])], None);
        check(&[("everfresh-application", &["sled"])], Some("must not use sled"));
        check(&[("everfresh-presentation", &["reqwest"])], Some("must not use reqwest"));
        check(&[("everfresh-infrastructure", &["axum"])], Some("must not use axum"));
    }

    #[test]
    fn every_package_has_its_layer() {
        check(&[("everfresh-new", &[])], Some("is in no layer"));
        let mut missing = tree(&[]);
        missing.remove("everfresh-domain");
        assert!(dependency_breaches(&missing).join("").contains("there is no package everfresh-domain"));
    }

    #[test]
    fn the_domain_is_free_of_input_and_output_also_through_others() {
        assert!(domain_breaches("everfresh-domain v0.1.0\nserde v1.0.0\n").is_empty());
        assert_eq!(domain_breaches("everfresh-domain v0.1.0\nx v1.0.0\ntokio v1.54.0\n").len(), 1);
    }

    #[test]
    fn files_begin_with_their_purpose_and_end_in_time() {
        assert!(text_breaches("a.rs", "//! Purpose.\nfn main() {}\n").is_empty());
        assert_eq!(text_breaches("a.rs", "fn main() {}\n").len(), 1);
        assert_eq!(text_breaches("a.rs", &format!("//! x\n{}", "\n".repeat(LINES_MAX))).len(), 1);
    }

    #[test]
    fn forbidden_words_and_paths_are_found_with_their_line() {
        for (forbidden, _) in FORBIDDEN {
            let breaches = text_breaches("a.rs", &format!("//! x\n\n    {forbidden}\n"));
            assert!(breaches.len() == 1 && breaches[0].starts_with("a.rs:3"), "{breaches:?}");
        }
        assert_eq!(text_breaches("a.md", concat!("see /ro", "ot/x")).len(), 1);
        assert!(text_breaches("a.md", concat!("see /mcp/ro", "ot/x")).is_empty());
    }

    #[test]
    fn links_within_the_repository_are_found() {
        assert_eq!(links("[a](b.md) [c](https://x) [d](#e) [f](g/h.md#i)"), ["b.md", "#e", "g/h.md#i"]);
    }

    #[test]
    fn links_lead_to_headings_and_marks() {
        let document = "# One\n\n## Two, and `three`_x\n\ntext # no\n\n<a id=\"four\"></a>\n";
        assert_eq!(anchors(document), ["one", "two-and-three_x", "four"]);
    }
}
