//! What must be true of the lock file itself.

use crate::run::{Result, root};

/// sled 1.0 alphas lose acknowledged writes (docs/STORAGE.md).
const SLED: &str = "0.34.7";

/// Checks the lock file.
pub(crate) fn check() -> Result {
    let path = root().join("Cargo.lock");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    match complaint(&text) {
        Some(complaint) => Err(complaint),
        None => Ok(()),
    }
}

fn complaint(lock: &str) -> Option<String> {
    let versions: Vec<&str> = lock
        .split("[[package]]")
        .filter(|package| package.contains("\nname = \"sled\"\n"))
        .filter_map(|package| package.split("version = \"").nth(1)?.split('"').next())
        .collect();
    (versions != [SLED]).then(|| format!("Cargo.lock has sled {versions:?}; only {SLED} is safe to use"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_safe_sled_passes() {
        let lock = |version: &str| format!("[[package]]\nname = \"sled\"\nversion = \"{version}\"\n");
        assert_eq!(complaint(&lock(SLED)), None);
        assert!(complaint(&lock("1.0.0-alpha.124")).is_some());
        assert!(complaint(&(lock(SLED) + &lock("1.0.0"))).is_some());
    }
}
