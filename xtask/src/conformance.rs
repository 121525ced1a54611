//! The official conformance suite of MCP, through the built binary.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::npm;
use crate::run::{Result, cargo, exists, root, run};

/// Installs the suite, and runs all its legs, or one of them, or one scenario.
pub(crate) fn conformance(leg: Option<&str>, scenario: Option<&str>) -> Result {
    for program in ["npm", "curl"] {
        if !exists(program, "--version") {
            return Err(format!("{program} is needed for the conformance suite; install it"));
        }
    }
    let place = npm::install("conformance")?;
    run(cargo().args(["build", "--package", "everfresh"]))?;
    let binary = root().join("target/debug").join(format!("everfresh{}", std::env::consts::EXE_SUFFIX));
    let mut legs = Command::new(node(&place));
    legs.arg("main.mjs").current_dir(&place).env("EVERFRESH_BIN", binary);
    for (option, value) in [("--leg", leg), ("--scenario", scenario)] {
        legs.args(value.map(|value| format!("{option}={value}")));
    }
    run(&mut legs)
}

/// The Node that came with the suite; where npm has none for this machine, the machine's own.
fn node(place: &Path) -> PathBuf {
    let machine = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    let brought = place.join(format!("node_modules/node-{}-{machine}/bin/node", std::env::consts::OS));
    if brought.exists() { brought } else { "node".into() }
}
