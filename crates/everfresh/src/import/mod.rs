//! `everfresh import`: logins of other programs move here, and their copies are disarmed.
//!
//! The other program's files are read here, as the user who calls, and each login is handed to the
//! API, which stores it before it sends anything. Only after that its copy is set aside.

mod plan;
mod tell;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use everfresh_infrastructure::import::{Found, disarm, processes};
use serde_json::{Value, json};

use crate::cli::{Global, Output};
use crate::client::{Api, Need, running_daemon};
use crate::exit::{Exit, Failure};
use crate::loading;
use crate::paths::Paths;

use plan::{Known, Planned};
use tell::Told;

/// Whose logins are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Source {
    /// The folder of mcp-remote: ~/.mcp-auth.
    McpRemote,
    /// The database of mcpproxy-go: ~/.mcpproxy/config.db.
    #[value(alias = "mcpproxy-go")]
    Mcpproxy,
    /// A document: see docs/MOVING_IN.md.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Whose logins are moved.
    #[arg(required_unless_present = "undo")]
    pub(crate) source: Option<Source>,
    /// The folder or file, where it is not at its usual place; '-' is stdin.
    pub(crate) path: Option<PathBuf>,
    /// Take back an import that was not refreshed yet; nothing is revoked.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["source", "path"])]
    pub(crate) undo: Option<String>,
    /// List what would be moved, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Move only this login, by the name or the URL that --dry-run shows; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// What the login is to be called, where there is one.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// A URL that mcp-remote was started with; may be given several times.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Vec<String>,
    /// A configuration of an MCP client that starts mcp-remote, besides the usual ones.
    #[arg(long, value_name = "FILE")]
    pub(crate) client_config: Vec<PathBuf>,
    /// Put the imported login in the place of one that lives.
    #[arg(long)]
    pub(crate) replace: bool,
    /// Do not refresh at once: the import can be undone until the first refresh is due.
    #[arg(long)]
    pub(crate) no_refresh: bool,
    /// Leave the other program's copy as it is. It must not be used again.
    #[arg(long)]
    pub(crate) keep_source: bool,
    /// The other program does not run, whatever it looks like.
    #[arg(long)]
    pub(crate) source_stopped: bool,
    /// How to print it.
    #[arg(short, long, default_value = "table")]
    pub(crate) output: Output,
}

/// Runs `everfresh import`.
pub(crate) async fn import(global: &Global, paths: &Paths, import: &Import) -> Result<Exit, Failure> {
    if let Some(name) = &import.undo {
        return undo(global, paths, name).await;
    }
    let source = import.source.ok_or_else(|| Failure::new(Exit::Usage, "name whose logins are to be imported"))?;
    if import.dry_run {
        let known = known_without_traces(global, paths).await?;
        let found = plan::find(import, source, &known)?;
        let (planned, found) = look(import, found, &known)?;
        tell::plan(&planned, &found, import.output);
        return Ok(Exit::Done);
    }
    // What refuses is told before any store is opened or key made, where that needs no other knowledge.
    let found = if source == Source::McpRemote { None } else { Some(plan::find(import, source, &[])?) };
    let need = if import.no_refresh { Need::Look } else { Need::Refresh };
    let api = Api::open(global, paths, need).await?;
    let ended = move_all(&api, import, source, found).await;
    api.close().await;
    ended
}

async fn move_all(api: &Api, import: &Import, source: Source, found: Option<Found>) -> Result<Exit, Failure> {
    let known = plan::known(&api.get("/api/v1/servers").await?);
    let found = found.map_or_else(|| plan::find(import, source, &known), Ok)?;
    let (planned, found) = look(import, found, &known)?;
    let mut told = Vec::new();
    for one in &planned {
        let one_told = move_one(api, import, source, one).await;
        if import.output == Output::Table {
            tell::one(&one_told);
        }
        told.push(one_told);
    }
    tell::all(&told, &found, import.output);
    // Until here the other program could not begin to use what was moved.
    drop(found.held);
    let exit = told.iter().map(|one| one.exit).find(|exit| *exit != Exit::Done);
    drop(told);
    Ok(exit.unwrap_or(Exit::Done))
}

/// What there is to move, by its names here. Nothing at all is an error that says what was looked at.
fn look(import: &Import, mut found: Found, known: &[Known]) -> Result<(Vec<Planned>, Found), Failure> {
    let logins = std::mem::take(&mut found.logins);
    let planned = plan::named(import, logins, known)?;
    if planned.is_empty() {
        found.problems.iter().for_each(crate::output::note);
        let only = if import.only.is_empty() { "" } else { " of that name or URL" };
        return Err(Failure::new(Exit::Failed, format!("there is no login{only} to import")));
    }
    Ok((planned, found))
}

async fn move_one(api: &Api, import: &Import, source: Source, planned: &Planned) -> Told {
    let mut told = Told::of(planned);
    if let (Source::McpRemote, false) = (source, import.source_stopped) {
        let url = &planned.found.login.url;
        if let Some(process) = processes().iter().find(|process| process.is_mcp_remote_for(url)) {
            let id = process.id;
            let text = format!(
                "mcp-remote runs for it (process {id}), and two owners of one refresh token end the login; quit the \
                 client that started it, or give --source-stopped, then import again"
            );
            return told.failed(&Failure::new(Exit::Refused, text));
        }
    }
    let mut login = planned.found.login.clone();
    login.name = Some(planned.name.clone());
    let body = json!({ "login": login, "replace": import.replace, "leave": import.no_refresh });
    let answer = match api.post("/api/v1/imports", Some(body)).await {
        Ok(answer) => answer,
        Err(failure) => return told.failed(&failure),
    };
    told.moved(&answer);
    let refresh_token = planned.found.login.refresh_token.as_ref();
    if let (true, false, Some(refresh_token)) = (owns(&answer), import.keep_source, refresh_token) {
        match disarm(&planned.found.origin, refresh_token) {
            Ok(done) => told.disarmed = done,
            Err(error) => told.not_disarmed(&error),
        }
    }
    told
}

/// Whether everfresh has refreshed the login, so that its copy must not be used again.
fn owns(answer: &Value) -> bool {
    let refreshed_before =
        answer["outcome"] == "already_here" && !answer["server"]["refresh"]["last_success_at"].is_null();
    answer["outcome"] == "refreshed" || refreshed_before
}

async fn undo(global: &Global, paths: &Paths, name: &str) -> Result<Exit, Failure> {
    let path = crate::commands::path_of(name)?.replace("/servers/", "/imports/");
    let api = Api::open(global, paths, Need::Look).await?;
    let undone = api.delete(&path).await;
    api.close().await;
    undone?;
    let text = format!("{name}: the import is undone, and nothing was revoked: the other program's copy is the login");
    crate::output::line(text);
    Ok(Exit::Done)
}

/// The servers there are, without making a store or a key where there is none.
async fn known_without_traces(global: &Global, paths: &Paths) -> Result<Vec<Known>, Failure> {
    if running_daemon(global, paths).await.is_some() || paths.local_key().exists() {
        let api = Api::open(global, paths, Need::Look).await?;
        let servers = api.get("/api/v1/servers").await;
        api.close().await;
        return Ok(plan::known(&servers?));
    }
    let config = loading::load(paths, global)?;
    Ok(config.servers.iter().map(|server| Known { name: server.name.to_string(), url: server.url.clone() }).collect())
}
