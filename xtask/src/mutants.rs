//! Breaks everfresh on purpose, one place at a time, and demands that some test notices.
//!
//! Works on a copy of the tree with a target folder of its own, so that nothing broken is ever left
//! behind.

mod list;

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

/// Makes every mutation whose sentence contains `name`, and prints what noticed it.
pub(crate) fn mutants(name: Option<&str>) -> Result {
    let tree = root().join("target/mutants/tree");
    copy(&tree)?;
    let wanted = list::MUTATIONS.iter().filter(|mutation| name.is_none_or(|name| mutation.what.contains(name)));
    let (mut made, mut failed) = (0, Vec::new());
    for mutation in wanted {
        made += 1;
        let verdict = make(&tree, mutation)?;
        let told = match &verdict {
            Verdict::Noticed(test) => format!("noticed by {test}"),
            Verdict::Survived => "SURVIVED".to_owned(),
            Verdict::Unbuildable => "DOES NOT BUILD".to_owned(),
        };
        say(&format!("{:<60} {told}", mutation.what));
        if !matches!(verdict, Verdict::Noticed(_)) {
            failed.push(mutation.what);
        }
    }
    say(&format!("{} of {made} mutations were noticed", made - failed.len()));
    if failed.is_empty() { Ok(()) } else { Err(format!("not noticed: {}", failed.join("; "))) }
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
    let tested = test(tree, mutation);
    write(&whole)?;
    tested
}

fn test(tree: &Path, mutation: &Mutation) -> Result<Verdict> {
    let target: PathBuf = root().join("target/mutants/target");
    let mut tests = cargo();
    tests.current_dir(tree).env("CARGO_TARGET_DIR", target).env("EVERFRESH_KILLS", "4").env("RUST_BACKTRACE", "0");
    tests.args(["nextest", "run", "--config-file", "nextest.toml", "--color", "never"]);
    tests.args(mutation.noticed_by.iter().flat_map(|package| ["--package", package]));
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
        let lost = list::MUTATIONS.iter().filter(|mutation| {
            let text = std::fs::read_to_string(root().join(mutation.file)).unwrap_or_default();
            text.matches(mutation.text).count() != 1 || mutation.text == mutation.instead
        });
        let lost: Vec<_> = lost.map(|mutation| mutation.what).collect();
        assert!(lost.is_empty(), "their text does not stand in its file exactly once: {lost:#?}");
    }
}
