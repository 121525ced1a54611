//! Servers and their grants.

use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use everfresh_application::ports::{JournalEntry, JournalOutcome};
use everfresh_application::{AppError, RefreshOutcome, ServerSettings};
use everfresh_domain::{AccountName, GrantId, ServerName};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::views::{AccessToken, Change, InvalidMember, NewServer, Refreshed, Server, Servers};
use super::{Asked, Body, Grant, Shared};
use crate::guard::Caller;
use crate::problem::Problem;

/// Entries of a journal that are shown unless more are asked for.
const JOURNAL_SHOWN: usize = 50;

/// Every grant that the caller's key opens.
#[utoipa::path(get, path = "/api/v1/servers", responses((status = 200, body = Servers)))]
pub(super) async fn list(State(shared): State<Shared>, Extension(caller): Extension<Caller>) -> Json<Servers> {
    let views = shared.application.servers();
    let servers = views.iter().filter(|view| caller.sees(&view.status.id)).map(Server::from).collect();
    // Problems may name what a limited key is not told of.
    let problems = if let Caller::Limited(_) = caller { Vec::new() } else { shared.application.not_ready() };
    Json(Servers { servers, problems })
}

/// One grant.
#[utoipa::path(get, path = "/api/v1/servers/{name}", params(("name" = String, Path)),
    responses((status = 200, body = Server), (status = 404)))]
pub(super) async fn show(State(shared): State<Shared>, Grant(grant): Grant) -> Result<Json<Server>, Problem> {
    shown(&shared, &grant)
}

pub(super) fn shown(shared: &Shared, grant: &GrantId) -> Result<Json<Server>, Problem> {
    Ok(Json(Server::from(&shared.application.server(grant)?)))
}

/// Adds a server.
#[utoipa::path(post, path = "/api/v1/servers", request_body = NewServer,
    responses((status = 201, body = Server), (status = 409), (status = 422)))]
pub(super) async fn add(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Body(new): Body<NewServer>,
) -> Result<(StatusCode, Json<Server>), Problem> {
    if new.names_files() && matches!(caller, Caller::Page) {
        let detail = "a server whose settings name files is added with the local key, not on the page: everfresh add";
        return Err(Problem::new(StatusCode::FORBIDDEN, "key-needed", "Local key needed", detail));
    }
    let settings = ServerSettings::try_from(new).map_err(|InvalidMember { pointer, detail }| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Invalid settings", detail).about(pointer)
    })?;
    let grant = GrantId::of(settings.name.clone());
    shared.application.add_server(settings).await.map_err(not_added)?;
    Ok((StatusCode::CREATED, shown(&shared, &grant)?))
}

/// Which member of the new server stands in the way.
fn not_added(error: AppError) -> Problem {
    let pointer = match &error {
        AppError::NameTaken(_) | AppError::DefinedInFile(_) => Some("/name"),
        AppError::Invalid(_) => Some("/url"),
        AppError::NoSuchServer(_)
        | AppError::Store(_)
        | AppError::Login(_)
        | AppError::Import(_)
        | AppError::Denied(_) => None,
    };
    let problem = Problem::from(error);
    pointer.into_iter().fold(problem, Problem::about)
}

/// Switches a server on or off.
#[utoipa::path(patch, path = "/api/v1/servers/{name}", request_body = Change, params(("name" = String, Path)),
    responses((status = 200, body = Server), (status = 404), (status = 409)))]
pub(super) async fn change(
    State(shared): State<Shared>,
    Grant(grant): Grant,
    Body(change): Body<Change>,
) -> Result<Json<Server>, Problem> {
    shared.application.set_enabled(whole_server(&grant)?, change.enabled).await?;
    shown(&shared, &grant)
}

/// Switches a server on.
#[utoipa::path(post, path = "/api/v1/servers/{name}/enable", params(("name" = String, Path)),
    responses((status = 200, body = Server), (status = 404), (status = 409)))]
pub(super) async fn enable(State(shared): State<Shared>, Grant(grant): Grant) -> Result<Json<Server>, Problem> {
    shared.application.set_enabled(whole_server(&grant)?, true).await?;
    shown(&shared, &grant)
}

/// Switches a server off. Its logins are kept.
#[utoipa::path(post, path = "/api/v1/servers/{name}/disable", params(("name" = String, Path)),
    responses((status = 200, body = Server), (status = 404), (status = 409)))]
pub(super) async fn disable(State(shared): State<Shared>, Grant(grant): Grant) -> Result<Json<Server>, Problem> {
    shared.application.set_enabled(whole_server(&grant)?, false).await?;
    shown(&shared, &grant)
}

/// The server of a grant that stands for all of it: accounts are not switched one by one.
fn whole_server(grant: &GrantId) -> Result<&ServerName, Problem> {
    if grant.account == AccountName::default() {
        return Ok(&grant.server);
    }
    let detail = format!("an account is not switched by itself; name the server: {}", grant.server);
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Invalid request", detail))
}

/// Removes a server with its logins, or, under `name@account`, that account of it.
#[utoipa::path(delete, path = "/api/v1/servers/{name}", params(("name" = String, Path)),
    responses((status = 204), (status = 404), (status = 409)))]
pub(super) async fn remove(State(shared): State<Shared>, Grant(grant): Grant) -> Result<StatusCode, Problem> {
    if grant.account == AccountName::default() {
        shared.application.remove_server(&grant.server).await?;
    } else {
        shared.application.remove_account(&grant).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Logs out: erases the tokens and revokes them where that is possible.
#[utoipa::path(post, path = "/api/v1/servers/{name}/logout", params(("name" = String, Path)),
    responses((status = 200, body = Server), (status = 404)))]
pub(super) async fn logout(State(shared): State<Shared>, Grant(grant): Grant) -> Result<Json<Server>, Problem> {
    shared.application.logout(&grant).await?;
    shown(&shared, &grant)
}

/// Makes one attempt as soon as spacing allows, and waits for its end. Of a grant that needs no
/// person also after a logout.
#[utoipa::path(post, path = "/api/v1/servers/{name}/refresh", params(("name" = String, Path)),
    responses((status = 200, body = Refreshed), (status = 404)))]
pub(super) async fn refresh(State(shared): State<Shared>, Grant(grant): Grant) -> Result<Json<Refreshed>, Problem> {
    let outcome = match shared.application.refresh(&grant).await? {
        RefreshOutcome::Refreshed(_) => "refreshed",
        RefreshOutcome::Failed(_) => "failed",
        RefreshOutcome::NotPossible(_) => "not_possible",
    };
    let Json(server) = shown(&shared, &grant)?;
    Ok(Json(Refreshed { outcome, server }))
}

/// How much of a token's life is to be left.
#[derive(Deserialize)]
pub(super) struct TokenQuery {
    /// Seconds; half of its life is always enough.
    min_validity: Option<u64>,
}

/// A valid access token, after a refresh if one is needed: because it is over, or because less than
/// `min_validity` seconds are left of it.
#[utoipa::path(get, path = "/api/v1/servers/{name}/token",
    params(("name" = String, Path), ("min_validity" = Option<u64>, Query)),
    responses((status = 200, body = AccessToken), (status = 404), (status = 503)))]
pub(super) async fn token(
    State(shared): State<Shared>,
    Grant(grant): Grant,
    Asked(query): Asked<TokenQuery>,
) -> Result<Json<AccessToken>, Problem> {
    let token = match query.min_validity {
        Some(seconds) => shared.application.token_lasting(&grant, Duration::from_secs(seconds)).await?,
        None => shared.application.token(&grant).await?,
    };
    Ok(Json(AccessToken {
        access_token: token.access_token.expose().to_owned(),
        token_type: token.token_type,
        expires_at: token.expires_at,
        scopes: token.scopes,
    }))
}

/// The settings in force for a server, for programs that check them: with the references to secrets,
/// and no secret but what a header of yours may hold.
#[utoipa::path(get, path = "/api/v1/servers/{name}/settings", params(("name" = String, Path)),
    responses((status = 200), (status = 404)))]
pub(super) async fn settings(
    State(shared): State<Shared>,
    Grant(grant): Grant,
) -> Result<Json<ServerSettings>, Problem> {
    Ok(Json((*shared.application.server(&grant)?.settings).clone()))
}

/// How much of a journal.
#[derive(Deserialize)]
pub(super) struct JournalQuery {
    /// Entries at most.
    limit: Option<usize>,
}

/// The attempts of a grant, newest first. Safe to paste into a bug report.
#[derive(Serialize, ToSchema)]
pub struct Journal {
    /// One for each attempt.
    entries: Vec<Attempt>,
}

/// One attempt.
#[derive(Serialize, ToSchema)]
pub struct Attempt {
    /// By which every line of the log about it is found.
    attempt_id: String,
    /// When it began.
    #[schema(format = DateTime)]
    started_at: String,
    /// How long the real request took.
    duration_ms: u64,
    /// What it was made for: `schedule`, `retry`, `lost_answer`, `request`, `upstream` or `user`.
    trigger: String,
    /// Of the token set that it was to replace.
    generation: u64,
    /// The refresh token that was sent, as fingerprint; null by a grant that has none.
    refresh_token: Option<String>,
    /// What such a grant sent of that which is configured, taken together, as fingerprint.
    credential: Option<String>,
    /// `refreshed`, `adopted`, `discarded` or `failed`.
    #[schema(pattern = "^(refreshed|adopted|discarded|failed)$")]
    result: &'static str,
    /// The refresh token afterwards, as fingerprint.
    new_refresh_token: Option<String>,
    /// The provider's error code.
    oauth_error: Option<String>,
    /// The status of its answer.
    http_status: Option<u16>,
    /// What went wrong.
    message: Option<String>,
}

impl From<JournalEntry> for Attempt {
    fn from(entry: JournalEntry) -> Self {
        let result = entry.outcome.as_str();
        let (new_refresh_token, failure) = match entry.outcome {
            JournalOutcome::Refreshed { refresh_token } => (refresh_token, None),
            JournalOutcome::Adopted | JournalOutcome::Discarded => (None, None),
            JournalOutcome::Failed { failure, .. } => (None, Some(failure)),
        };
        Self {
            attempt_id: entry.attempt.to_string(),
            started_at: entry.started_at.to_string(),
            duration_ms: u64::try_from(entry.duration.as_millis()).unwrap_or(u64::MAX),
            trigger: entry.trigger,
            generation: entry.generation.0,
            refresh_token: entry.refresh_token.map(|fingerprint| fingerprint.to_string()),
            credential: entry.credential.map(|fingerprint| fingerprint.to_string()),
            result,
            new_refresh_token: new_refresh_token.map(|fingerprint| fingerprint.to_string()),
            oauth_error: failure.as_ref().and_then(|failure| failure.oauth_error.clone()),
            http_status: failure.as_ref().and_then(|failure| failure.http_status),
            message: failure.map(|failure| failure.message),
        }
    }
}

/// The journal of a grant.
#[utoipa::path(get, path = "/api/v1/servers/{name}/journal", params(("name" = String, Path), ("limit" = Option<usize>, Query)),
    responses((status = 200, body = Journal), (status = 404)))]
pub(super) async fn journal(
    State(shared): State<Shared>,
    Grant(grant): Grant,
    Asked(query): Asked<JournalQuery>,
) -> Result<Json<Journal>, Problem> {
    let entries = shared.application.journal(&grant, query.limit.unwrap_or(JOURNAL_SHOWN)).await?;
    Ok(Json(Journal { entries: entries.into_iter().map(Attempt::from).collect() }))
}
