//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::ArgValueCandidates;

use crate::completion;
use crate::help;
use crate::schema::Shape;

use crate::connect::Connect;
use crate::explain;
use crate::keys::Key;
use crate::serve::Serve;
use crate::token::Token;
use crate::token::git::GitCredential;

/// A local proxy that owns OAuth logins and keeps them fresh.
#[derive(Debug, Parser)]
#[command(name = "everfresh", version, about, disable_help_subcommand = true, after_help = help::EVERFRESH)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// The configuration file (TOML).
    #[arg(long, global = true, env = "EVERFRESH_CONFIG", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// The folder of store, keys and log.
    #[arg(long, global = true, env = "EVERFRESH_DATA_DIR", value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where the daemon listens.
    #[arg(long, global = true, env = "EVERFRESH_LISTEN", value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// What is logged: off, error, warn, info, debug, trace, or a list like info,everfresh=debug.
    #[arg(long, global = true, env = "EVERFRESH_LOG", value_name = "FILTER")]
    pub(crate) log_level: Option<String>,
    /// How it is logged, to stderr. Text on a terminal, else JSON.
    #[arg(long, global = true, env = "EVERFRESH_LOG_FORMAT", value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// The command that opens a URL; started without a shell.
    #[arg(long, global = true, env = "BROWSER", value_name = "COMMAND")]
    pub(crate) browser_cmd: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    #[default]
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon in the foreground (the default).
    #[command(after_help = help::SERVE)]
    Serve(Serve),
    /// Show the whole product on this machine, with no account and nothing left behind.
    Demo(Demo),
    /// Add a server, then log in to it.
    #[command(after_help = help::ADD)]
    Add(Box<Add>),
    /// Log in to a server.
    #[command(after_help = help::LOGIN)]
    Login(Login),
    /// Revoke and erase a login.
    Logout(Name),
    /// Remove a server with its logins, or one account of it.
    Remove(Name),
    /// Switch a server on.
    Enable(Name),
    /// Switch a server off; its logins are kept.
    Disable(Name),
    /// One line for each login.
    #[command(visible_alias = "status", after_help = help::LIST)]
    List(List),
    /// The same as list.
    #[command(subcommand, hide = true)]
    Upstream(Upstream),
    /// One login in full.
    #[command(after_help = help::SHOW)]
    Show(Show),
    /// The attempts of a login, newest first.
    #[command(after_help = help::JOURNAL)]
    Journal(Journal),
    /// Make one attempt now, and wait for its result.
    #[command(after_help = help::REFRESH)]
    Refresh(Refresh),
    /// Print a valid access token, refreshing first if needed.
    #[command(after_help = help::TOKEN)]
    Token(Token),
    /// Answer git, as a credential helper.
    GitCredential(GitCredential),
    /// Local keys: the full one, and limited ones for programs that need less.
    #[command(subcommand, arg_required_else_help = true)]
    Key(Key),
    /// Print how a client reaches a server.
    #[command(after_help = help::URL)]
    Url(Url),
    /// Write servers into a client's configuration; alone, show which clients have which.
    Connect(Box<Connect>),
    /// Serve a client that speaks stdio only: forwards to a server, and starts the daemon if none
    /// runs.
    #[command(after_help = help::STDIO)]
    Stdio(Name),
    /// Open the page.
    Open(Open),
    /// Let the daemon run in the background, from login to logout.
    #[command(subcommand, arg_required_else_help = true)]
    Service(crate::service::Service),
    /// Say whether the daemon is ready to serve: by the exit code, for scripts and health checks.
    Ready(crate::service::ready::Ready),
    /// What is told without being asked: try it.
    #[command(subcommand, arg_required_else_help = true)]
    Notify(crate::commands::Notify),
    /// Move logins of other programs here, and set their copies aside.
    Import(Box<crate::import::Import>),
    /// Write a sealed backup of servers and logins; the daemon must not run.
    Export(crate::backup::Export),
    /// Put a backup back, but for what is newer here; the daemon must not run.
    Restore(crate::backup::Restore),
    /// Check configuration, store, key, daemon, providers and upstreams.
    #[command(after_help = help::DOCTOR)]
    Doctor(Doctor),
    /// Explain a reason, a situation or an exit code; without one, list them.
    Explain(explain::Explain),
    /// Print a script that completes commands, options and server names in a shell.
    #[command(after_help = help::COMPLETIONS)]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the JSON Schema of what -o json prints.
    #[command(after_help = help::SCHEMA)]
    Schema {
        /// Of which command.
        #[arg(value_name = "NAME")]
        shape: Shape,
    },
    /// Write the manual pages, one for each command.
    #[command(hide = true)]
    Man {
        /// Where to; without it, the page of everfresh itself is printed.
        #[arg(value_name = "FOLDER", value_hint = ValueHint::DirPath)]
        folder: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Upstream {
    /// One line for each login.
    List(List),
}

/// A login by name.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// NAME or NAME@ACCOUNT.
    #[arg(add = ArgValueCandidates::new(completion::names))]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Url {
    #[command(flatten)]
    pub(crate) server: Name,
    /// Make a limited key by this name, and print the URL with it in place of the local key.
    #[arg(long = "for", value_name = "WHOM")]
    pub(crate) whom: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Refresh {
    /// NAME or NAME@ACCOUNT.
    #[arg(add = ArgValueCandidates::new(completion::names))]
    pub(crate) name: String,
    /// How to print it.
    #[arg(short, long, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// End after the story instead of going on until Ctrl-C.
    #[arg(long)]
    pub(crate) once: bool,
    /// How long access tokens live.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) lifetime: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// A short name: a-z, 0-9, '.', '_', '-'. As NAME@ACCOUNT, that account is logged in to.
    pub(crate) name: String,
    /// The upstream's URL.
    pub(crate) url: String,
    /// A client id that was registered by hand.
    #[arg(long, value_name = "ID")]
    pub(crate) client_id: Option<String>,
    /// The environment variable, of the daemon, that holds the client's secret.
    #[arg(long, value_name = "VARIABLE")]
    pub(crate) client_secret_env: Option<String>,
    /// By what right tokens are asked for; all but authorization-code need no person.
    #[arg(long, default_value = "authorization_code")]
    pub(crate) grant: Grant,
    /// The file with the client's private key (PKCS #8 in PEM), with which it signs who it is.
    #[arg(long, value_name = "FILE")]
    pub(crate) private_key_file: Option<PathBuf>,
    /// What that key signs with, where not as usual: ES256, RS256, PS256, ...
    #[arg(long, value_name = "ALG", requires = "private_key_file")]
    pub(crate) signing_alg: Option<String>,
    /// The file with the assertion of a jwt_bearer grant; read anew for each token.
    #[arg(long, value_name = "FILE")]
    pub(crate) assertion_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) identity_provider: IdentityProvider,
    /// A scope to ask for; may be given several times.
    #[arg(long, value_name = "SCOPE")]
    pub(crate) scope: Vec<String>,
    /// The resource indicator: auto, none, or a URI sent byte for byte.
    #[arg(long, value_name = "URI")]
    pub(crate) resource: Option<String>,
    /// Whether tokens are bound to a key that is proven with each request: auto, required or off.
    #[arg(long, value_name = "WHEN")]
    pub(crate) dpop: Option<String>,
    /// Where answers to logins come back to, for a client id that was registered with exactly this.
    #[arg(long, value_name = "URI")]
    pub(crate) redirect_uri: Option<String>,
    /// The provider whose ways this one has: auto, none, or a name of docs/PROVIDERS.md.
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// The authorization server, where it is not to be discovered.
    #[arg(long, value_name = "URL")]
    pub(crate) issuer: Option<String>,
    /// A header for every proxied request, as 'Name: value'; may be given several times.
    #[arg(long, value_name = "HEADER")]
    pub(crate) header: Vec<String>,
    /// Further certificate authorities (PEM).
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The certificate to show where one is demanded (PEM).
    #[arg(long, value_name = "FILE")]
    pub(crate) client_cert: Option<PathBuf>,
    /// Its private key (PEM), where it is not in the same file.
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    pub(crate) client_key: Option<PathBuf>,
    /// Do not log in.
    #[arg(long)]
    pub(crate) no_login: bool,
    #[command(flatten)]
    pub(crate) how: LoginHow,
}

/// By what right tokens are asked for.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Grant {
    /// A person logs in.
    AuthorizationCode,
    /// The client's own right.
    ClientCredentials,
    /// An assertion of who runs this, as workload identities have it.
    JwtBearer,
    /// An ID token of the enterprise's identity provider.
    EnterpriseManaged,
}

#[derive(Debug, Args)]
pub(crate) struct IdentityProvider {
    /// The issuer of an enterprise's identity provider.
    #[arg(long, value_name = "URL", requires = "id_token_file")]
    pub(crate) idp_issuer: Option<String>,
    /// Its token endpoint, where that is not to be discovered.
    #[arg(long, value_name = "URL", requires = "id_token_file")]
    pub(crate) idp_token_endpoint: Option<String>,
    /// The client at the identity provider.
    #[arg(long, value_name = "ID", requires = "id_token_file")]
    pub(crate) idp_client_id: Option<String>,
    /// The environment variable, of the daemon, that holds that client's secret.
    #[arg(long, value_name = "VARIABLE", requires = "id_token_file")]
    pub(crate) idp_client_secret_env: Option<String>,
    /// The file with the ID token; read anew for each token.
    #[arg(long, value_name = "FILE")]
    pub(crate) id_token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// NAME or NAME@ACCOUNT.
    #[arg(add = ArgValueCandidates::new(completion::names))]
    pub(crate) name: String,
    /// Take back the login that is under way, and begin none.
    #[arg(long, conflicts_with_all = ["no_browser", "paste", "device", "new_client", "timeout"])]
    pub(crate) cancel: bool,
    #[command(flatten)]
    pub(crate) how: LoginHow,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct LoginHow {
    /// Print the URL instead of opening it.
    #[arg(long, conflicts_with = "device")]
    pub(crate) no_browser: bool,
    /// Print the URL, and take the address where the login ends from stdin: for browsers on other machines.
    #[arg(long, conflicts_with = "device")]
    pub(crate) paste: bool,
    /// Log in by a code that is typed in at the provider, on any machine.
    #[arg(long)]
    pub(crate) device: bool,
    /// Register a new client first: for providers whose page speaks of an unknown client or redirect URI.
    #[arg(long)]
    pub(crate) new_client: bool,
    /// How long to wait for the end of the login.
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) timeout: Duration,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct List {
    /// How to print it.
    #[arg(short, long, default_value = "table")]
    pub(crate) output: Output,
    /// Go on, live: redraw it on a terminal, else print a line for each change.
    #[arg(long, conflicts_with = "check")]
    pub(crate) watch: bool,
    /// Exit with 10 if anything is unhealthy, with 11 if anything is degraded, with 6 if no daemon runs.
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// NAME or NAME@ACCOUNT.
    #[arg(add = ArgValueCandidates::new(completion::names))]
    pub(crate) name: String,
    /// How to print it.
    #[arg(short, long, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Journal {
    /// NAME or NAME@ACCOUNT.
    #[arg(add = ArgValueCandidates::new(completion::names))]
    pub(crate) name: String,
    /// How to print it.
    #[arg(short, long, default_value = "table")]
    pub(crate) output: Output,
    /// Attempts at most.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Open {
    /// Print the one-time link instead of opening it.
    #[arg(long)]
    pub(crate) print: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Only this server, besides what is checked of everfresh itself.
    #[arg(add = ArgValueCandidates::new(completion::names))]
    pub(crate) name: Option<String>,
    /// How to print it.
    #[arg(short, long, default_value = "table")]
    pub(crate) output: Output,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_bare_call_is_the_daemon() {
        assert!(Cli::parse_from(["everfresh"]).command.is_none());
    }
}
