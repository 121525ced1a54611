//! Client secrets from where the user keeps them: a variable, a file, a command.

use std::path::Path;
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
        match source {
            SecretSource::Env(variable) => match std::env::var(variable) {
                Ok(text) => first_line(&text, || format!("the environment variable {variable}")),
                Err(_) => Err(format!("the environment variable {variable} is not set for the daemon")),
            },
            SecretSource::File(path) => from_file(path),
            SecretSource::Command(words) => from_command(words).await,
        }
    }
}

fn from_file(path: &Path) -> Result<Secret, String> {
    let text = std::fs::read_to_string(path).map(Zeroizing::new);
    let text = text.map_err(|error| format!("the file {} cannot be read: {error}", path.display()))?;
    first_line(&text, || format!("the file {}", path.display()))
}

async fn from_command(words: &[String]) -> Result<Secret, String> {
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
    let printed = Zeroizing::new(String::from_utf8_lossy(&output.stdout).into_owned());
    first_line(&printed, || format!("the command {program}"))
}

fn first_line(text: &str, what: impl FnOnce() -> String) -> Result<Secret, String> {
    match text.lines().next().map(str::trim) {
        Some(line) if !line.is_empty() => Ok(Secret::new(line)),
        Some(_) | None => Err(format!("{} is empty", what())),
    }
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
