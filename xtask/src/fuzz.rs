//! Fuzzing: parsers of foreign bytes, for so many seconds each, from the corpora in the tree.

use std::process::Stdio;

use crate::run::{Result, cargo, exists, root, run, say};

/// The targets, as in `tests/fuzz/Cargo.toml`.
const TARGETS: [&str; 9] = [
    "token_endpoint",
    "metadata",
    "www_authenticate",
    "callback_query",
    "stored_record",
    "configuration",
    "engine_trace",
    "bolt",
    "import_document",
];

/// Where they are built: sanitizers would cost more time than they find in safe Rust.
const BUILD: [&str; 4] = ["--fuzz-dir", "tests/fuzz", "--sanitizer", "none"];

/// Runs one target, or all. Without a nightly compiler nothing can be fuzzed, and that is said.
pub(crate) fn fuzz(target: Option<&str>, seconds: u32) -> Result {
    if !has_nightly() {
        say("there is no nightly compiler here (rustup toolchain install nightly): nothing is fuzzed in this run");
        return Ok(());
    }
    if !exists("cargo-fuzz", "--version") {
        run(cargo().args(["install", "--locked", "cargo-fuzz"]))?;
    }
    for wanted in TARGETS.iter().filter(|name| target.is_none_or(|target| target == **name)) {
        let corpus = root().join("target/fuzz-corpus").join(wanted);
        std::fs::create_dir_all(&corpus).map_err(|error| format!("{}: {error}", corpus.display()))?;
        let time = format!("-max_total_time={seconds}");
        // The first folder takes what is found; the checked-in seeds are only read.
        let mut fuzz = std::process::Command::new("cargo");
        fuzz.current_dir(root())
            .env_remove("RUSTUP_TOOLCHAIN")
            .args(["+nightly", "fuzz", "run"])
            .args(BUILD)
            .arg(wanted);
        fuzz.arg(corpus).arg(format!("tests/fuzz/corpus/{wanted}"));
        run(fuzz.args(["--", &time, "-print_final_stats=1", "-verbosity=0", "-max_len=65536", "-timeout=10"]))?;
    }
    Ok(())
}

fn has_nightly() -> bool {
    let mut version = std::process::Command::new("cargo");
    version.env_remove("RUSTUP_TOOLCHAIN").args(["+nightly", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}
