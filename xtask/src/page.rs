//! The page in a real browser: the built binary, a provider that can be taken away, and Chromium.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::npm;
use crate::run::{Result, cargo, exists, root, run, say};

/// What Chromium is called on this and that system; `CHROMIUM` names another.
const BROWSERS: [&str; 6] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
];

/// Installs what drives the browser, and runs the tests of `tests/page`, or those whose name contains
/// `name`. Pictures of the page are left in the target folder.
pub(crate) fn page(name: Option<&str>) -> Result {
    for program in ["node", "npm"] {
        if !exists(program, "--version") {
            return Err(format!("{program} is needed for the tests of the page; install it"));
        }
    }
    let Some(browser) = browser() else {
        return Err("Chromium is needed for the tests of the page; install it, or name it in CHROMIUM".to_owned());
    };
    let place = npm::install("page")?;
    run(cargo().args(["build", "--package", "everfresh", "--package", "everfresh-e2e"]).args([
        "--bin",
        "everfresh",
        "--bin",
        "provider",
    ]))?;
    let mut tests = Command::new("node");
    tests.arg("main.mjs").args(name).current_dir(&place).env("CHROMIUM", browser);
    run(tests.env("EVERFRESH_BIN", built("everfresh")).env("PROVIDER_BIN", built("provider")))
}

/// The same where there is a browser; where there is none, that is said, and the rest goes on.
pub(crate) fn page_where_possible() -> Result {
    if browser().is_some() {
        return page(None);
    }
    say("THE PAGE IS NOT TESTED IN THIS RUN: there is no Chromium here; install it, or name it in CHROMIUM");
    Ok(())
}

fn browser() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    named.or_else(|| BROWSERS.iter().find_map(|browser| found(browser)))
}

fn found(browser: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&folders).map(|folder| folder.join(browser));
    // A whole path replaces the folder that it is joined to.
    places.find(|path| path.is_file())
}

fn built(name: &str) -> PathBuf {
    let target: &Path = &root().join("target/debug");
    target.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}
