//! Against software that none of us wrote: a certified authorization server and the official SDKs,
//! installed from npm and PyPI into the target folder.

use std::path::Path;
use std::process::Command;

use crate::npm;
use crate::run::{Result, cargo, exists, root, run, say};

/// Installs what is needed, and runs the stories of `tests/real`.
pub(crate) fn real() -> Result {
    for program in ["node", "npm", "python3"] {
        if !exists(program, "--version") {
            return Err(format!("{program} is needed for the tests against foreign software; install it"));
        }
    }
    let place = npm::install("real")?;
    let python = python(&place)?;
    run(cargo().args(["build", "--package", "everfresh"]))?;
    let binary = root().join("target/debug").join(format!("everfresh{}", std::env::consts::EXE_SUFFIX));
    for story in ["story.mjs", "moving.mjs"] {
        run(Command::new("node").arg(story).current_dir(&place).env("EVERFRESH_BIN", &binary).env("PYTHON", &python))?;
    }
    Ok(())
}

/// A Python with the official MCP SDK.
fn python(place: &Path) -> Result<std::path::PathBuf> {
    let venv = place.join("venv");
    let python = venv.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))
            .inspect_err(|_| say("python3-venv may be missing"))?;
    }
    let requirements = place.join("requirements.txt");
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(requirements))?;
    Ok(python)
}
