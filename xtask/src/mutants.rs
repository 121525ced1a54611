//! Breaks everfresh on purpose, one place at a time, and demands that some test notices.
//!
//! Works on a copy of the tree with a target folder of its own, so that nothing broken is ever left
//! behind.

mod keys;
mod list;
mod page;
mod tray;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::run::{Result, cargo, output, root, say};

/// One place, broken.
struct Mutation {
    /// What is broken, as a sentence.
    what: &'static str,
    /// Where.
    file: &'static str,
    /// The text that stands there, exactly once.
    text: &'static str,
    /// What takes its place.
    instead: &'static str,
    /// The packages whose tests must notice.
    noticed_by: &'static [&'static str],
}

/// Every mutation there is.
fn all() -> impl Iterator<Item = &'static Mutation> {
    list::MUTATIONS.iter().chain(keys::MUTATIONS).chain(page::MUTATIONS).chain(tray::MUTATIONS)
}

/// How it went.
enum Verdict {
    /// This test failed.
    Noticed(String),
    /// No test failed.
    Survived,
    /// The broken tree does not build: the mutation says nothing.
    Unbuildable,
}

/// A test that hangs has noticed something too; it is ended after this.
const TEST_LIMIT: &str = "[profile.default]\nslow-timeout = { period = \"30s\", terminate-after = 4 }\n";

/// Where the catch table of the last run is written.
const TABLE: &str = "target/mutants/table.md";

/// Makes every mutation whose sentence contains `name`, and prints what noticed it.
pub(crate) fn mutants(name: Option<&str>) -> Result {
    let tree = root().join("target/mutants/tree");
    copy(&tree)?;
    let wanted = all().filter(|mutation| name.is_none_or(|name| mutation.what.contains(name)));
    let wanted: Vec<&Mutation> = wanted.collect();
    baseline(&tree, &wanted)?;
    let (mut table, mut failed) =
        (vec!["| broken on purpose | noticed by |".to_owned(), "|---|---|".to_owned()], Vec::new());
    for mutation in &wanted {
        let verdict = make(&tree, mutation)?;
        let told = match &verdict {
            Verdict::Noticed(test) => format!("noticed by {test}"),
            Verdict::Survived => "SURVIVED".to_owned(),
            Verdict::Unbuildable => "DOES NOT BUILD".to_owned(),
        };
        say(&format!("{:<60} {told}", mutation.what));
        table.push(format!("| {} | {} |", mutation.what, told.strip_prefix("noticed by ").unwrap_or(&told)));
        if !matches!(verdict, Verdict::Noticed(_)) {
            failed.push(mutation.what);
        }
    }
    let noticed = format!("{} of {} mutations were noticed", wanted.len() - failed.len(), wanted.len());
    table.push(format!("\n{noticed}"));
    let (table, path) = (table.join("\n") + "\n", root().join(TABLE));
    std::fs::write(&path, &table).map_err(|error| format!("{}: {error}", path.display()))?;
    say(&format!("\n{table}\nThe table is in {TABLE}."));
    if failed.is_empty() { Ok(()) } else { Err(format!("not noticed: {}", failed.join("; "))) }
}

/// The tree as it is must pass: where a test fails without any mutation, it notices nothing.
fn baseline(tree: &Path, wanted: &[&Mutation]) -> Result {
    let packages: BTreeSet<&'static str> = wanted.iter().flat_map(|mutation| mutation.noticed_by).copied().collect();
    if packages.is_empty() {
        return Err("no mutation has that in its sentence".to_owned());
    }
    match test(tree, packages)? {
        Verdict::Survived => Ok(()),
        Verdict::Noticed(test) => Err(format!("{test} fails although nothing is broken")),
        Verdict::Unbuildable => Err("the tree does not build although nothing is broken".to_owned()),
    }
}

/// Copies what is in the tree, changed or not, and leaves what has not changed alone.
fn copy(tree: &Path) -> Result {
    let listed = output(Command::new("git").args(["ls-files"]).current_dir(root()))?;
    for file in listed.lines() {
        let (from, to) = (root().join(file), tree.join(file));
        let Ok(bytes) = std::fs::read(&from) else { continue };
        if std::fs::read(&to).is_ok_and(|old| old == bytes) {
            continue;
        }
        let made = std::fs::create_dir_all(to.parent().unwrap_or(tree)).and_then(|()| std::fs::write(&to, bytes));
        made.map_err(|error| format!("{}: {error}", to.display()))?;
    }
    std::fs::write(tree.join("nextest.toml"), TEST_LIMIT).map_err(|error| error.to_string())
}

fn make(tree: &Path, mutation: &Mutation) -> Result<Verdict> {
    let path = tree.join(mutation.file);
    let whole = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let write = |text: &str| std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()));
    write(&whole.replacen(mutation.text, mutation.instead, 1))?;
    let tested = test(tree, mutation.noticed_by.iter().copied());
    write(&whole)?;
    tested
}

fn test(tree: &Path, packages: impl IntoIterator<Item = &'static str>) -> Result<Verdict> {
    let target: PathBuf = root().join("target/mutants/target");
    let mut tests = cargo();
    tests.current_dir(tree).env("CARGO_TARGET_DIR", target).env("EVERFRESH_KILLS", "4").env("RUST_BACKTRACE", "0");
    tests.args(["nextest", "run", "--config-file", "nextest.toml", "--color", "never"]);
    tests.args(packages.into_iter().flat_map(|package| ["--package", package]));
    let ended = tests.stdin(Stdio::null()).output().map_err(|error| format!("cargo nextest: {error}"))?;
    let said = String::from_utf8_lossy(&ended.stderr);
    if ended.status.success() {
        return Ok(Verdict::Survived);
    }
    let failed = said.lines().map(str::trim).find(|line| line.starts_with("FAIL") || line.starts_with("TIMEOUT"));
    let test = failed.and_then(|line| line.split(") ").last());
    Ok(test.map_or(Verdict::Unbuildable, |test| Verdict::Noticed(test.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutation_finds_its_place() {
        let lost = all().filter(|mutation| {
            let text = std::fs::read_to_string(root().join(mutation.file)).unwrap_or_default();
            text.matches(mutation.text).count() != 1 || mutation.text == mutation.instead
        });
        let lost: Vec<_> = lost.map(|mutation| mutation.what).collect();
        assert!(lost.is_empty(), "their text does not stand in its file exactly once: {lost:#?}");
    }
}
