//! Tests, and everything else that must hold before a change is one.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;

use crate::run::{Result, cargo, exists, root, run, say};
use crate::{conformance, fuzz, lock, page, real, tidy};

/// Crates that other tools may depend on, or that must not lean on their neighbours' features.
const ALONE: [&str; 8] = [
    "everfresh-domain",
    "everfresh-application",
    "everfresh-infrastructure",
    "everfresh-presentation",
    "everfresh-testkit",
    "everfresh-browser",
    "everfresh-tray",
    "everfresh",
];

/// The `cargo-deny` that is installed where there is none.
const DENY: &str = "0.20.2";

/// What a test run lives through: the engine alone, then the whole application. Together more than
/// 3,000 grant-years over more than 400 seeds.
pub(crate) const SIM: [&str; 4] = ["--seeds", "0..210", "--years", "1"];
const STORM: [&str; 5] = ["--storm", "--seeds", "0..200", "--days", "36"];

/// How long a test run fuzzes each target.
const FUZZ_SECONDS: u32 = 5;

/// Everything that continuous integration runs.
pub(crate) fn ci() -> Result {
    check()?;
    test()
}

/// Everything but the tests.
pub(crate) fn check() -> Result {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--all-features", "--", "--deny", "warnings"]))?;
    tidy::tidy()?;
    for package in ALONE {
        run(cargo().args(["check", "--package", package]))?;
    }
    let docs = ["doc", "--workspace", "--no-deps", "--document-private-items"];
    run(cargo().args(docs).env("RUSTDOCFLAGS", "--deny warnings"))?;
    deny()
}

/// Every test.
pub(crate) fn test() -> Result {
    if has_nextest() {
        run(cargo().args(["nextest", "run", "--no-fail-fast", "--workspace", "--exclude", "everfresh-e2e"]))?;
    } else {
        run(cargo().args(["test", "--workspace", "--exclude", "everfresh-e2e"]))?;
    }
    run(cargo().args(["run", "--quiet", "--release", "--package", "everfresh-domain", "--example", "outside"]))?;
    sim(&SIM)?;
    sim(&STORM)?;
    fuzz::fuzz(None, FUZZ_SECONDS)?;
    e2e(None)?;
    page::page_where_possible()?;
    real::real()?;
    conformance::conformance(None, None)?;
    // Last: it builds the binary with another feature.
    traces()
}

fn has_nextest() -> bool {
    let mut nextest = cargo();
    nextest.args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    nextest.status().is_ok_and(|status| status.success())
}

/// The built binary against servers over HTTP.
pub(crate) fn e2e(name: Option<&str>) -> Result {
    run(cargo().args(["build", "--package", "everfresh"]))?;
    let mut tests = cargo();
    if has_nextest() {
        // All of them: a run far away should tell everything that fails there, not the first.
        let shown = ["--no-fail-fast", "--success-output", "immediate", "--test-threads", "6"];
        tests.args(["nextest", "run", "--package", "everfresh-e2e"]).args(shown).args(name);
    } else {
        tests.args(["test", "--package", "everfresh-e2e"]).args(name).args([
            "--",
            "--nocapture",
            "--test-threads",
            "6",
        ]);
    }
    run(&mut tests)?;
    if name.is_none() { tray() } else { Ok(()) }
}

/// The tray with the daemon that `e2e` has built.
fn tray() -> Result {
    let tests = ["test", "--package", "everfresh-tray", "--test", "it", "real", "--", "--nocapture"];
    run(cargo().args(tests).env("EVERFRESH_BIN", binary()))
}

/// The binary that cargo builds.
fn binary() -> PathBuf {
    root().join("target/debug").join(format!("everfresh{}", std::env::consts::EXE_SUFFIX))
}

/// The build that exports traces, against a collector.
fn traces() -> Result {
    run(cargo().args(["build", "--package", "everfresh", "--features", "otel"]))?;
    let tests = ["test", "--package", "everfresh-e2e", "traces", "--", "--nocapture"];
    run(cargo().args(tests).env("EVERFRESH_BIN", binary()).env("EVERFRESH_EXPECT_TRACES", "1"))
}

/// Simulated years.
pub(crate) fn sim(wanted: &[impl AsRef<OsStr>]) -> Result {
    let mut sim = cargo();
    sim.args(["run", "--quiet", "--release", "--package", "everfresh-testkit", "--features", "storm"]);
    run(sim.args(["--bin", "everfresh-sim", "--"]).args(wanted))
}

/// Licences, bans, sources; advisories where their database can be had.
fn deny() -> Result {
    lock::check()?;
    if !exists("cargo-deny", "--version") {
        let install = ["install", "--locked", "--debug", "cargo-deny", "--version", DENY];
        run(cargo().args(install))?;
    }
    run(cargo().args(["deny", "--all-features", "check", "bans", "licenses", "sources"]))?;
    let reachable = run(cargo().args(["deny", "fetch", "db"])).is_ok();
    if reachable {
        return run(cargo().args(["deny", "check", "advisories"]));
    }
    say("the advisory database cannot be reached from here: advisories are not checked in this run");
    Ok(())
}
