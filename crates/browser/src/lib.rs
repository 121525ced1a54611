//! Opening a URL for a person: never through a shell, and only one that a page can be at.
//!
//! Not here: whether it should be opened. That is for whoever a person has asked.

use std::process::{Command, Stdio};

use url::Url;

/// Opens `url` with `command`, or with the system's own opener. The error says why not.
pub fn open(command: Option<&str>, url: &str) -> Result<(), String> {
    let url = openable(url)?;
    let Some(command) = command else {
        return open::that_detached(url.as_str()).map_err(|error| error.to_string());
    };
    let mut words = words(command, &url).into_iter();
    let program = words.next().filter(|program| program != url.as_str()).ok_or("--browser-cmd is empty")?;
    let spawned =
        Command::new(&program).args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    spawned.map(drop).map_err(|error| format!("{program}: {error}"))
}

/// Only https, or http on this machine: whoever wrote the metadata chose the URL. As it is written
/// anew, it holds no space, quote or control character.
fn openable(url: &str) -> Result<Url, String> {
    let parsed = Url::parse(url).map_err(|error| error.to_string())?;
    let here = matches!(parsed.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match parsed.scheme() {
        "https" => Ok(parsed),
        "http" if here => Ok(parsed),
        scheme => Err(format!("its scheme is {scheme}")),
    }
}

/// Program and arguments: `%s` stands for the URL, which else comes last.
fn words(command: &str, url: &Url) -> Vec<String> {
    let mut words: Vec<String> = command.split_whitespace().map(|word| word.replace("%s", url.as_str())).collect();
    if !command.contains("%s") {
        words.push(url.to_string());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_on_the_web_or_on_this_machine_are_opened() {
        for url in ["https://as.example/a?b=c", "http://localhost:7411/", "http://127.0.0.1:1/", "http://[::1]:1/"] {
            assert!(openable(url).is_ok(), "{url}");
        }
        for url in [
            "javascript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "http://as.example/",
            "http://localhost.evil.example/",
            "http://127.0.0.1@evil.example/",
            "ssh://host",
            "--help",
            "calc.exe",
            "",
        ] {
            assert!(openable(url).is_err(), "{url}");
            assert!(open(Some("true"), url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_url_is_one_argument_that_no_shell_reads() {
        let url = openable("https://as.example/?a=$(id)&b=`id`&c=\"; id #'|x y\n").unwrap();
        let shown = url.as_str();
        assert!(!shown.contains([' ', '"', '\n']), "{shown}");
        assert_eq!(words("firefox --new-window", &url), ["firefox", "--new-window", shown]);
        assert_eq!(words("open %s --background", &url), ["open", shown, "--background"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_command_that_is_not_there_or_empty_is_told() {
        assert!(open(Some("/no/such/browser"), "https://as.example/").unwrap_err().starts_with("/no/such/browser: "));
        assert_eq!(open(Some(" "), "https://as.example/").unwrap_err(), "--browser-cmd is empty");
    }
}
