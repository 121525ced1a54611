//! Completion in shells: the script that asks this binary, and the names of servers as candidates.
//!
//! A shell waits while it completes: nothing here opens the store or sends anything to a provider.

use std::time::Duration;

use clap::{CommandFactory, Parser};
use clap_complete::env::{EnvCompleter, Shells};
use clap_complete::{CompleteEnv, CompletionCandidate};
use everfresh_infrastructure::store::recorded_names;
use everfresh_presentation::help::sections;
use serde_json::Value;

use crate::cli::{Cli, Global};
use crate::client;
use crate::exit::{Exit, Failure};
use crate::loading;
use crate::output;
use crate::paths::Paths;

/// The variable by which the script says that it asks.
const VARIABLE: &str = "EVERFRESH_COMPLETE";

/// Has zsh complete at all, where nothing at its start has done so yet.
const ZSH_READY: &str = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }\n";

/// What a person waits for after the Tab key.
const PATIENCE: Duration = Duration::from_millis(500);

/// Answers a shell that asks, and ends; does nothing for anybody else.
pub(crate) fn answer() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
}

/// The script that a shell reads at its start. It asks this binary at each Tab, so that it stays right
/// when everfresh is updated.
pub(crate) fn script(shell: clap_complete::Shell) -> Result<Vec<u8>, Failure> {
    let name = shell.to_string();
    let no_such = || Failure::new(Exit::Usage, format!("there is no completion for {name}"));
    let shells = Shells::builtins();
    let completer: &dyn EnvCompleter = shells.completer(&name).ok_or_else(no_such)?;
    let mut script = Vec::new();
    let written = completer.write_registration(VARIABLE, "everfresh", "everfresh", "everfresh", &mut script);
    written.map_err(|error| Failure::new(Exit::Failed, format!("the script for {name}: {error}")))?;
    if shell == clap_complete::Shell::Zsh {
        // Behind the first line, by which zsh knows what a file on its search path completes.
        let end = script.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        script.splice(end..end, ZSH_READY.bytes());
    }
    Ok(script)
}

/// What there is to explain.
pub(crate) fn topics() -> Vec<CompletionCandidate> {
    let topics = sections().map(|section| {
        let name = section.id.strip_prefix("exit-").unwrap_or(section.id);
        CompletionCandidate::new(name).help(Some(section.words.into()))
    });
    topics.collect()
}

/// The names of all logins: the daemon's, else those of the configuration and the data folder.
pub(crate) fn names() -> Vec<CompletionCandidate> {
    let Some((global, paths)) = places() else { return Vec::new() };
    from_daemon(&global, &paths).unwrap_or_else(|| from_disk(&global, &paths))
}

/// The places that the unfinished command line means.
fn places() -> Option<(Global, Paths)> {
    /// The global options alone.
    #[derive(Parser)]
    #[command(ignore_errors = true)]
    struct Line {
        #[command(flatten)]
        global: Global,
    }

    let words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    let global = Line::try_parse_from(words).ok()?.global;
    let paths = Paths::of(&global).ok()?;
    Some((global, paths))
}

fn from_daemon(global: &Global, paths: &Paths) -> Option<Vec<CompletionCandidate>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let asked = async {
        let (base_url, key) = client::daemon(global, paths).await.ok()??;
        let request = client::http_client().get(format!("{base_url}/api/v1/servers")).header("x-everfresh-key", key);
        request.send().await.ok()?.error_for_status().ok()?.json::<Value>().await.ok()
    };
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await.ok()? })?;
    let servers = answer["servers"].as_array()?;
    let candidate = |server: &Value| {
        CompletionCandidate::new(output::name_of(server)).help(Some(output::text(&server["health"]["summary"]).into()))
    };
    Some(servers.iter().map(candidate).collect())
}

fn from_disk(global: &Global, paths: &Paths) -> Vec<CompletionCandidate> {
    let mut names = recorded_names(&paths.data);
    let configured = loading::load(paths, global).map(|config| config.servers).unwrap_or_default();
    names.extend(configured.iter().map(|server| server.name.to_string()));
    names.sort();
    names.dedup();
    names.into_iter().map(CompletionCandidate::new).collect()
}
