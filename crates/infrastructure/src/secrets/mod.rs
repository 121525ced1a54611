//! Client secrets from where the user keeps them: a variable, a file, a command.

use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use everfresh_application::SecretSource;
use everfresh_application::ports::Secrets;
use everfresh_domain::Secret;
use tokio::process::Command;
use zeroize::Zeroizing;

/// How long a command may take: a password manager may ask for a fingerprint.
const PATIENCE: Duration = Duration::from_secs(60);

/// The secrets of this system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemSecrets;

#[async_trait]
impl Secrets for SystemSecrets {
    async fn resolve(&self, source: &SecretSource) -> Result<Secret, String> {
        let text = fetched(source).await?;
        let line = text.lines().next().map(str::trim).filter(|line| !line.is_empty());
        line.map(Secret::new).ok_or_else(|| format!("{} is empty", named(source)))
    }

    async fn resolve_whole(&self, source: &SecretSource) -> Result<Secret, String> {
        let text = fetched(source).await?;
        let whole = Some(text.trim()).filter(|text| !text.is_empty());
        whole.map(Secret::new).ok_or_else(|| format!("{} is empty", named(source)))
    }
}

/// How a source is called in what is said about it.
fn named(source: &SecretSource) -> String {
    match source {
        SecretSource::Env(variable) => format!("the environment variable {variable}"),
        SecretSource::File(path) => format!("the file {}", path.display()),
        SecretSource::Command(words) => format!("the command {}", words.first().map_or("", String::as_str)),
    }
}

async fn fetched(source: &SecretSource) -> Result<Zeroizing<String>, String> {
    match source {
        SecretSource::Env(variable) => {
            let text = std::env::var(variable).map(Zeroizing::new);
            text.map_err(|_| format!("{} is not set for the daemon", named(source)))
        }
        SecretSource::File(path) => {
            let text = std::fs::read_to_string(path).map(Zeroizing::new);
            text.map_err(|error| format!("{} cannot be read: {error}", named(source)))
        }
        SecretSource::Command(words) => from_command(words).await,
    }
}

async fn from_command(words: &[String]) -> Result<Zeroizing<String>, String> {
    let Some((program, arguments)) = words.split_first() else { return Err("the command is empty".to_owned()) };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = match tokio::time::timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("the command {program} cannot be run: {error}")),
        Err(_) => return Err(format!("the command {program} did not end within {} s", PATIENCE.as_secs())),
    };
    if !output.status.success() {
        return Err(format!("the command {program} ended with {}", output.status));
    }
    Ok(Zeroizing::new(String::from_utf8_lossy(&output.stdout).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_gives_its_first_line_and_its_absence_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "s3cret\nmore").unwrap();
        let found = SystemSecrets.resolve(&SecretSource::File(path.clone())).await.unwrap();
        assert_eq!(found.expose(), "s3cret");
        std::fs::write(&path, "\n").unwrap();
        assert!(SystemSecrets.resolve(&SecretSource::File(path)).await.unwrap_err().contains("empty"));
        std::fs::write(folder.path().join("key"), "-----BEGIN-----\nmore\n").unwrap();
        let key = SystemSecrets.resolve_whole(&SecretSource::File(folder.path().join("key"))).await.unwrap();
        assert_eq!(key.expose(), "-----BEGIN-----\nmore");
        let absent = SystemSecrets.resolve(&SecretSource::File(folder.path().join("no"))).await;
        assert!(absent.unwrap_err().contains("cannot be read"));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_command_runs_without_a_shell() {
        let run = |words: &[&str]| SecretSource::Command(words.iter().map(|word| (*word).to_owned()).collect());
        let found = SystemSecrets.resolve(&run(&["printf", "%s", "$HOME;x"])).await.unwrap();
        assert_eq!(found.expose(), "$HOME;x");
        assert!(SystemSecrets.resolve(&run(&["false"])).await.unwrap_err().contains("false ended with"));
        assert!(SystemSecrets.resolve(&run(&[])).await.is_err());
    }

    #[tokio::test]
    async fn a_variable_that_is_not_set_is_named() {
        let source = SecretSource::Env("EVERFRESH_NO_SUCH_VARIABLE".into());
        assert!(SystemSecrets.resolve(&source).await.unwrap_err().contains("EVERFRESH_NO_SUCH_VARIABLE"));
    }
}
