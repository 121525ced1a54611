//! What is shipped: an archive of the binary with its manual and completions, and a Debian package.
//!
//! Everything is made on the system that it is for: the binary itself writes manual and completions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Result, cargo, exists, output, root, run, say};

/// The `cargo-deb` that is installed where there is none.
const DEB: &str = "3.8.0";

/// Completions by shell, and what each shell looks for.
const SHELLS: [(&str, &str); 4] =
    [("bash", "everfresh.bash"), ("zsh", "_everfresh"), ("fish", "everfresh.fish"), ("powershell", "_everfresh.ps1")];

/// What stands beside the binary in an archive.
const BESIDE: [&str; 3] = ["LICENSE", "README.md", "CHANGELOG.md"];

/// Builds, and puts what is to be shipped into `target/package/out`.
pub(crate) fn package(deb: bool) -> Result {
    run(cargo().args(["build", "--release", "--locked", "--package", "everfresh"]))?;
    let binary = root().join("target/release").join(format!("everfresh{}", std::env::consts::EXE_SUFFIX));
    let folder = root().join("target/package");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| told(&folder, &error))?;
    }
    write_extras(&binary, &folder)?;
    let out = made(&folder.join("out"))?;
    let archive = archive(&binary, &folder, &out)?;
    say(&format!("made {}", archive.display()));
    if deb {
        if !exists("cargo-deb", "--version") {
            run(cargo().args(["install", "--locked", "cargo-deb", "--version", DEB]))?;
        }
        run(cargo().args(["deb", "--package", "everfresh", "--no-build", "--no-strip", "--output"]).arg(&out))?;
    }
    Ok(())
}

/// The manual and the completions, as the binary writes them.
fn write_extras(binary: &Path, folder: &Path) -> Result {
    let man = made(&folder.join("man"))?;
    run(Command::new(binary).arg("man").arg(&man))?;
    let completions = made(&folder.join("completions"))?;
    for (shell, name) in SHELLS {
        let text = output(Command::new(binary).args(["completions", shell]))?;
        let path = completions.join(name);
        fs::write(&path, text).map_err(|error| told(&path, &error))?;
    }
    Ok(())
}

/// One archive for this system: a zip for Windows, elsewhere a tarball.
fn archive(binary: &Path, folder: &Path, out: &Path) -> Result<PathBuf> {
    let name = format!("everfresh-{}-{}", version()?, host()?);
    let inner = made(&folder.join(&name))?;
    let beside = BESIDE.iter().map(|name| root().join(name));
    for path in beside.chain([binary.to_owned()]) {
        let name = path.file_name().unwrap_or_default();
        fs::copy(&path, inner.join(name)).map_err(|error| told(&path, &error))?;
    }
    for part in ["man", "completions"] {
        let target = made(&inner.join(part))?;
        for entry in fs::read_dir(folder.join(part)).map_err(|error| told(folder, &error))?.flatten() {
            fs::copy(entry.path(), target.join(entry.file_name())).map_err(|error| told(&entry.path(), &error))?;
        }
    }
    let archive = out.join(format!("{name}.{}", if cfg!(windows) { "zip" } else { "tar.gz" }));
    // Of the name's ending, tar makes the format: on Windows too, whose tar knows zip.
    run(Command::new("tar").current_dir(folder).args(["-a", "-c", "-f"]).arg(&archive).arg(&name))?;
    Ok(archive)
}

fn version() -> Result<String> {
    let id = output(cargo().args(["pkgid", "--package", "everfresh"]))?;
    let version = id.trim().rsplit(['#', '@']).next().unwrap_or_default();
    Ok(version.to_owned())
}

/// The triple that this is compiled for.
fn host() -> Result<String> {
    let told = output(Command::new("rustc").arg("-vV"))?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not say what it compiles for".to_owned())
}

fn made(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder).map_err(|error| told(folder, &error))?;
    Ok(folder.to_owned())
}

fn told(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
