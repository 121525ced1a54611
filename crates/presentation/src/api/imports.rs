//! Logins of other programs: moved here, and back for as long as that is possible.
//!
//! Whoever calls has read the other program's files; what is handed over holds secrets, and only
//! programs with the local key may hand it over.

use axum::Json;
use axum::extract::State;
use everfresh_application::{AppError, ForeignLogin, ImportError, MoveOutcome, MoveTerms, RefreshOutcome};
use everfresh_domain::grant::ClientAuthMethod;
use everfresh_domain::{Secret, Timestamp};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::servers::shown;
use super::views::Server;
use super::{Body, Grant, Shared};
use crate::problem::Problem;

/// A login to be moved here.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewImport {
    /// The login.
    login: NewLogin,
    /// Whether it may take the place of a login that lives.
    #[serde(default)]
    replace: bool,
    /// Whether it is left as it came, so that the import can be undone until the first refresh is due.
    #[serde(default)]
    leave: bool,
}

/// A login as another program kept it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewLogin {
    /// NAME or NAME@ACCOUNT.
    name: String,
    /// The upstream that its tokens are for.
    url: String,
    /// The authorization server that made it; where left out, the one that the upstream names.
    #[serde(default)]
    issuer: Option<String>,
    /// That server's token endpoint; where given, it must be the one that is found.
    #[serde(default)]
    token_endpoint: Option<String>,
    /// The client that the tokens were issued to.
    #[serde(default)]
    client_id: Option<String>,
    /// That client's secret.
    #[serde(default)]
    client_secret: Option<String>,
    /// `none`, `client_secret_basic` or `client_secret_post`; where left out, as is usual.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    token_endpoint_auth_method: Option<ClientAuthMethod>,
    /// When the secret ends.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    client_secret_expires_at: Option<Timestamp>,
    /// The redirect URIs that the client was registered with.
    #[serde(default)]
    redirect_uris: Vec<String>,
    /// The refresh token.
    #[serde(default)]
    refresh_token: Option<String>,
    /// The access token.
    #[serde(default)]
    access_token: Option<String>,
    /// How it is sent; `Bearer` where left out.
    #[serde(default)]
    token_type: Option<String>,
    /// When the tokens were issued.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    issued_at: Option<Timestamp>,
    /// When the access token ends.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    expires_at: Option<Timestamp>,
    /// The granted scopes.
    #[serde(default)]
    scopes: Vec<String>,
    /// `auto`, `none`, or a resource indicator sent byte for byte.
    #[serde(default)]
    resource: Option<String>,
}

impl From<NewLogin> for ForeignLogin {
    fn from(new: NewLogin) -> Self {
        Self {
            name: Some(new.name),
            url: new.url,
            issuer: new.issuer,
            token_endpoint: new.token_endpoint,
            client_id: new.client_id,
            client_secret: new.client_secret.map(Secret::new),
            token_endpoint_auth_method: new.token_endpoint_auth_method,
            client_secret_expires_at: new.client_secret_expires_at,
            redirect_uris: new.redirect_uris,
            refresh_token: new.refresh_token.map(Secret::new),
            access_token: new.access_token.map(Secret::new),
            token_type: new.token_type,
            issued_at: new.issued_at,
            expires_at: new.expires_at,
            scopes: new.scopes,
            resource: new.resource,
        }
    }
}

/// What came of an import. The login is stored in every case.
#[derive(Serialize, ToSchema)]
pub(super) struct Imported {
    /// `refreshed`, `failed`, `not_possible`, `left`, `without_refresh_token`, or `already_here`: the
    /// refresh token came here before, and `server` is the login that it belongs to.
    outcome: &'static str,
    /// Whether the refresh token is another one than it came with: the copy that it came from is dead.
    rotated: bool,
    /// Whether its server was added for it.
    added_server: bool,
    /// The login.
    server: Server,
}

/// Moves a login of another program here: stored first, then refreshed at once.
#[utoipa::path(post, path = "/api/v1/imports", request_body = NewImport,
    responses((status = 200, body = Imported), (status = 409), (status = 422), (status = 502)))]
pub(super) async fn take(State(shared): State<Shared>, Body(new): Body<NewImport>) -> Result<Json<Imported>, Problem> {
    let login = ForeignLogin::from(new.login);
    let grant = login.grant().map_err(|error| Problem::from(AppError::from(error)))?;
    let terms = MoveTerms { replace: new.replace, leave: new.leave };
    let moved = match shared.application.move_in(login, terms).await {
        Err(AppError::Import(ImportError::AlreadyHere(here))) => {
            shared.application.complete_move(&here, terms).await?;
            let Json(server) = shown(&shared, &here)?;
            return Ok(Json(Imported { outcome: "already_here", rotated: false, added_server: false, server }));
        }
        moved => moved?,
    };
    let outcome = match moved.outcome {
        MoveOutcome::Left => "left",
        MoveOutcome::WithoutRefreshToken => "without_refresh_token",
        MoveOutcome::Refresh(RefreshOutcome::Refreshed(_)) => "refreshed",
        MoveOutcome::Refresh(RefreshOutcome::Failed(_)) => "failed",
        MoveOutcome::Refresh(RefreshOutcome::NotPossible(_)) => "not_possible",
    };
    let Json(server) = shown(&shared, &grant)?;
    Ok(Json(Imported { outcome, rotated: moved.rotated, added_server: moved.added_server, server }))
}

/// Takes an import back, while no refresh can have spent what it came with. Nothing is revoked.
#[utoipa::path(delete, path = "/api/v1/imports/{name}", params(("name" = String, Path)),
    responses((status = 204), (status = 404), (status = 409)))]
pub(super) async fn undo(State(shared): State<Shared>, Grant(grant): Grant) -> Result<StatusCode, Problem> {
    shared.application.move_back(&grant).await?;
    Ok(StatusCode::NO_CONTENT)
}
