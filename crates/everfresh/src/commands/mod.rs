//! The commands: each calls the API, and prints what it says.

mod doctor;
mod list;
mod login;
mod notify;
mod servers;

use everfresh_domain::GrantId;
use everfresh_domain::Timestamp;

use crate::cli::{Command, Global, Upstream};
use crate::client::{Api, Need};
use crate::exit::{Exit, Failure};
use crate::keys;
use crate::paths::Paths;
use crate::token;

pub(crate) use notify::Notify;

/// Runs a command that calls the API.
pub(crate) async fn run(command: Command, global: &Global, paths: &Paths) -> Result<Exit, Failure> {
    if let Command::Doctor(doctor) = &command {
        return doctor::doctor(global, paths, doctor).await;
    }
    if let Command::Connect(wanted) = &command {
        return crate::connect::connect(global, paths, wanted).await;
    }
    let logs_in = matches!(&command, Command::Login(_)) || matches!(&command, Command::Add(add) if !add.no_login);
    let need = if logs_in {
        Need::Login
    } else if matches!(&command, Command::Refresh(_) | Command::Token(_) | Command::GitCredential(_)) {
        Need::Refresh
    } else {
        Need::Look
    };
    let api = Api::open(global, paths, need).await?;
    let ended = with(&api, command, global, paths).await;
    api.close().await;
    ended
}

async fn with(api: &Api, command: Command, global: &Global, paths: &Paths) -> Result<Exit, Failure> {
    match command {
        Command::Add(add) => login::add(api, global, *add).await,
        Command::Login(login) => login::login(api, global, &login.name, &login.how).await,
        Command::Logout(name) => servers::logout(api, &name.name).await,
        Command::Remove(name) => servers::remove(api, &name.name).await,
        Command::Enable(name) => servers::switch(api, &name.name, "enable").await,
        Command::Disable(name) => servers::switch(api, &name.name, "disable").await,
        Command::List(list) | Command::Upstream(Upstream::List(list)) => list::list(api, list).await,
        Command::Show(show) => list::show(api, &show.name, show.output).await,
        Command::Journal(journal) => list::journal(api, &journal).await,
        Command::Refresh(name) => servers::refresh(api, &name.name).await,
        Command::Token(asked) => token::token(api, &asked).await,
        Command::GitCredential(asked) => token::git::git_credential(api, &asked).await,
        Command::Key(key) => keys::run(api, paths, key).await,
        Command::Url(name) => servers::url(api, &name.name).await,
        Command::Open(open) => login::open_page(api, global, &open).await,
        Command::Notify(Notify::Test(test)) => notify::test(api, &test).await,
        Command::Serve
        | Command::Demo(_)
        | Command::Doctor(_)
        | Command::Connect(_)
        | Command::Stdio(_)
        | Command::Service(_)
        | Command::Ready(_)
        | Command::Completions { .. } => Ok(Exit::Done),
    }
}

/// The API's path of a login, if its name is one.
pub(crate) fn path_of(name: &str) -> Result<String, Failure> {
    let grant = grant_in(name).map_err(|failure| Failure { exit: Exit::NoSuchServer, ..failure })?;
    Ok(format!("/api/v1/servers/{grant}"))
}

/// A login's name: NAME or NAME@ACCOUNT.
fn grant_in(name: &str) -> Result<GrantId, Failure> {
    let unusable = |error: everfresh_domain::ids::InvalidName| Failure::new(Exit::Usage, error.to_string());
    name.parse().map_err(unusable)
}

/// The time, for words like "in 5 min".
pub(crate) fn now() -> Timestamp {
    use everfresh_application::ports::Clock;

    everfresh_infrastructure::system::SystemClock::default().now()
}
