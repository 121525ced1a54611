//! Completion as shells do it, each for real: a line, and the Tab key.

use std::path::Path;
use std::time::Duration;

use everfresh_e2e::World;
use everfresh_e2e::daemon::{binary, plain};

/// How long a shell may take.
const LIMIT: Duration = Duration::from_secs(30);

/// bash at a Tab calls the function that the script registers, with the words of the line.
const BASH: &str = r#"
source <(everfresh completions bash)
COMP_WORDS=(everfresh $1 "$2") COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_TYPE=9
"$(complete -p everfresh | sed 's/.*-F \([^ ]*\) .*/\1/')" everfresh "$2" "$1"
printf 'completed: %s\n' "${COMPREPLY[@]}"
"#;

/// zsh on a terminal of its own, with nothing read at its start.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PS1=''; source <(everfresh completions zsh); print REA''DY"
zpty -r -m shell heard '*READY*'
zpty -w -n shell "everfresh $1 $2"$'\t'
zpty -r -m shell heard "*everfresh $1 $3*" && print completed: $3
print -r -- $heard
zpty -d shell
"#;

const FISH: &str = "everfresh completions fish | source; echo completed: (complete -C \"everfresh $argv[1] $argv[2]\")";

/// What a shell says that finds the binary on its search path, for this data folder.
/// Nothing where there is no such shell.
async fn said_by(folder: &Path, shell: &str, arguments: &[&str]) -> Option<String> {
    let own = binary().parent().expect("the binary lies in a folder");
    let path = format!("{}:{}", own.display(), std::env::var("PATH").unwrap_or_default());
    let mut asked = plain(shell);
    asked.args(arguments).env("PATH", path).env("HOME", folder).env("TERM", "xterm").kill_on_drop(true);
    asked.env("EVERFRESH_CONFIG", folder.join("config.toml")).env("EVERFRESH_DATA_DIR", folder.join("data"));
    let output = tokio::time::timeout(LIMIT, asked.output()).await.expect("the shell ends").ok()?;
    Some(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// Every shell that is there completes `word` behind `command` to `expected`. Tells which are not.
async fn expect_completed(world: &World, [command, word, expected]: [&str; 3]) -> Vec<&'static str> {
    let mut missing = Vec::new();
    let shells: [(&'static str, &[&str]); 3] = [
        ("bash", &["--norc", "-c", BASH, "bash", command, word]),
        ("zsh", &["-f", "-c", ZSH, "zsh", command, word, expected]),
        ("fish", &["--no-config", "-c", FISH, command, word]),
    ];
    for (shell, arguments) in shells {
        let Some(said) = said_by(world.folder(), shell, arguments).await else {
            missing.push(shell);
            continue;
        };
        let is_there = said.contains(&format!("completed: {expected}"));
        assert!(is_there && !said.contains("not found"), "{shell}, {command} {word}: {said:?}");
    }
    missing
}

#[tokio::test(flavor = "multi_thread")]
async fn bash_zsh_and_fish_complete_servers_with_and_without_a_daemon() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    world.configure("[servers.from-file]\nurl = \"https://mcp.invalid/mcp\"\n");
    let daemon = world.daemon().await;
    daemon.run(&["add", "linear", "https://mcp.invalid/mcp", "--no-login"]).await.expect(0);
    let cases = [["show", "lin", "linear"], ["token", "from", "from-file"]];
    for case in cases {
        expect_completed(&world, case).await;
    }
    expect_completed(&world, ["connect cursor", "lin", "linear"]).await;
    expect_completed(&world, ["key add ci --server", "lin", "linear"]).await;
    let missing = expect_completed(&world, ["explain", "rotation", "rotation_lost"]).await;
    if !missing.is_empty() {
        assert!(std::env::var_os("GITHUB_ACTIONS").is_none(), "continuous integration has {missing:?}");
        println!("completion: SKIPPED in shells that are not here: {missing:?}");
    }
    daemon.kill().await;
    for case in cases {
        expect_completed(&world, case).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shell_has_a_script() {
    let world = World::with_lifetime(Duration::from_secs(600)).await;
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = world.run(&["completions", shell]).await.expect(0).stdout;
        assert!(script.contains("EVERFRESH_COMPLETE"), "{shell}: {script}");
    }
    let script = world.run(&["completions", "zsh"]).await.expect(0).stdout;
    assert!(script.starts_with("#compdef everfresh\n"), "zsh finds it on its search path: {script}");
}
