//! The commands: each calls the API, and prints what it says.

pub(crate) mod doctor;
mod journal;
pub(crate) mod list;
mod login;
mod notify;
mod past;
mod servers;
pub(crate) mod show;

use everfresh_domain::GrantId;
use everfresh_domain::Timestamp;

use crate::cli::{Command, Global, Upstream};
use crate::client::{Api, Need};
use crate::config;
use crate::exit::{Exit, Failure};
use crate::keys;
use crate::output;
use crate::paths::Paths;
use crate::token;

pub(crate) use notify::Notify;

/// What is to be known of a login while no daemon runs.
const NOT_RUNNING: &str = "the daemon does not run: nothing is refreshed. Start it with: everfresh serve";

/// Runs a command that calls the API.
pub(crate) async fn run(command: Command, global: &Global, paths: &Paths) -> Result<Exit, Failure> {
    if let Command::Doctor(doctor) = &command {
        return doctor::doctor(global, paths, doctor).await;
    }
    if let Command::Connect(wanted) = &command {
        return crate::connect::connect(global, paths, wanted).await;
    }
    if let Command::List(list) | Command::Upstream(Upstream::List(list)) = &command
        && list.watch
    {
        return list::watch(global, paths, *list).await;
    }
    if let Command::Import(import) = &command {
        return crate::import::import(global, paths, import).await;
    }
    if let Command::Export(export) = &command {
        return crate::backup::export(global, paths, export).await;
    }
    if let Command::Restore(restore) = &command {
        return crate::backup::restore(global, paths, restore).await;
    }
    let logs_in = matches!(&command, Command::Login(login) if !login.cancel)
        || matches!(&command, Command::Add(add) if !add.no_login);
    let need = if logs_in {
        Need::Login
    } else if matches!(&command, Command::Refresh(_) | Command::Token(_) | Command::GitCredential(_)) {
        Need::Refresh
    } else {
        Need::Look
    };
    let api = Api::open(global, paths, need).await?;
    let ended = match with(&api, command, global, paths).await {
        Err(failure) if failure.exit == Exit::NoSuchServer => Err(with_nearest(&api, failure).await),
        ended => ended,
    };
    api.close().await;
    ended
}

async fn with(api: &Api, command: Command, global: &Global, paths: &Paths) -> Result<Exit, Failure> {
    match command {
        Command::Add(add) => login::add(api, global, *add).await,
        Command::Login(login) if login.cancel => login::cancel(api, &login.name).await,
        Command::Login(login) => login::login(api, global, &login.name, &login.how).await,
        Command::Logout(name) => servers::logout(api, &name.name).await,
        Command::Remove(name) => servers::remove(api, &name.name).await,
        Command::Enable(name) => servers::switch(api, &name.name, "enable").await,
        Command::Disable(name) => servers::switch(api, &name.name, "disable").await,
        Command::List(list) | Command::Upstream(Upstream::List(list)) => list::list(api, list).await,
        Command::Show(show) => show::show(api, &show.name, show.output).await,
        Command::Journal(journal) => journal::journal(api, &journal).await,
        Command::Refresh(refresh) => servers::refresh(api, &refresh.name, refresh.output).await,
        Command::Token(asked) => token::token(api, &asked).await,
        Command::GitCredential(asked) => token::git::git_credential(api, &asked).await,
        Command::Key(key) => keys::run(api, paths, key).await,
        Command::Url(url) => servers::url(api, &url.server.name, url.whom.as_deref()).await,
        Command::Open(open) => login::open_page(api, global, &open).await,
        Command::Notify(Notify::Test(test)) => notify::test(api, &test).await,
        Command::Serve(_)
        | Command::Demo(_)
        | Command::Doctor(_)
        | Command::Connect(_)
        | Command::Explain(_)
        | Command::Export(_)
        | Command::Import(_)
        | Command::Restore(_)
        | Command::Stdio(_)
        | Command::Service(_)
        | Command::Ready(_)
        | Command::Completions { .. }
        | Command::Schema { .. }
        | Command::Man { .. } => Ok(Exit::Done),
    }
}

/// The failure with the name that was probably meant, where one is near.
async fn with_nearest(api: &Api, failure: Failure) -> Failure {
    let Ok(answer) = api.get("/api/v1/servers").await else { return failure };
    let names: Vec<String> = answer["servers"].as_array().into_iter().flatten().map(output::name_of).collect();
    let wanted = failure.text.split('"').nth(1).unwrap_or_default().to_owned();
    match meant(&wanted, &names) {
        Some(name) => Failure { text: format!("there is no server {wanted:?}; did you mean {name}?"), ..failure },
        None => failure,
    }
}

/// The one of `names` that `wanted` is a slip or a beginning of; of several the shortest.
fn meant<'n>(wanted: &str, names: &'n [String]) -> Option<&'n str> {
    let wanted = wanted.to_lowercase();
    let names = || names.iter().map(String::as_str);
    let begun = || names().filter(|name| wanted.len() > 2 && name.starts_with(&wanted)).min_by_key(|name| name.len());
    config::nearest(&wanted, names()).or_else(begun)
}

/// The API's path of a login, if its name is one.
pub(crate) fn path_of(name: &str) -> Result<String, Failure> {
    let grant = grant_in(name).map_err(|failure| Failure { exit: Exit::NoSuchServer, ..failure })?;
    Ok(format!("/api/v1/servers/{grant}"))
}

/// A login's name: NAME or NAME@ACCOUNT.
fn grant_in(name: &str) -> Result<GrantId, Failure> {
    let unusable = |error: everfresh_domain::ids::InvalidName| {
        let text = match error.0.as_str() {
            "" => format!("{name:?} is no name of a login: that is NAME, or NAME@ACCOUNT for one of several"),
            _ => error.to_string(),
        };
        Failure::new(Exit::Usage, text)
    };
    name.parse().map_err(unusable)
}

/// The time, for words like "in 5 min".
pub(crate) fn now() -> Timestamp {
    use everfresh_application::ports::Clock;

    everfresh_infrastructure::system::SystemClock::default().now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_suggested_where_one_is_near_and_no_other() {
        let names = ["a", "db", "linear2", "github", "linear", "linear@work"].map(str::to_owned);
        for (wanted, expected) in [
            ("linaer", Some("linear")),
            ("Linear", Some("linear")),
            ("lin", Some("linear")),
            ("githb", Some("github")),
            ("notion", None),
            ("linea", Some("linear")),
            ("x", None),
            ("b", None),
            ("A", Some("a")),
            ("dc", None),
            ("", None),
        ] {
            assert_eq!(meant(wanted, &names), expected, "{wanted}");
        }
    }
}
