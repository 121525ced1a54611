//! Local keys: seen, made, rotated, removed. For whoever holds the full one; a limited key may learn
//! what it opens itself.

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use everfresh_application::{KeyView, NewKey};
use everfresh_domain::{
    AccountName, Fingerprint, GrantId, KeyHolder, KeyName, KeyRight, KeyScope, LimitedKey, Secret, Timestamp,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Body, Shared};
use crate::guard::Caller;
use crate::problem::Problem;

/// A limited key, without its secret.
#[derive(Serialize, ToSchema)]
pub(super) struct Key {
    /// By what it is known.
    #[schema(value_type = String)]
    name: KeyName,
    /// The logins it is limited to; empty where it opens all.
    servers: Vec<String>,
    /// Whose logins it stands for under a server's bare name.
    account: Option<String>,
    /// `data_plane`: requests only; `tokens`: the same, and be handed tokens.
    right: &'static str,
    /// What it may do, in words.
    may: String,
    /// When its secret was made.
    #[schema(value_type = String)]
    created_at: Timestamp,
    /// When it ends; null where it does not.
    #[schema(value_type = Option<String>)]
    expires_at: Option<Timestamp>,
    /// Whether that time has come.
    expired: bool,
    /// When it was last shown, to the minute; null where not since the daemon began.
    #[schema(value_type = Option<String>)]
    last_used_at: Option<Timestamp>,
    /// The first half of its secret's SHA-256: tells by a key's text which one it is.
    #[schema(value_type = String)]
    fingerprint: Fingerprint,
    /// The client that it was made for, by `everfresh connect`; null for one made by hand.
    holder: Option<Holder>,
}

/// A client with a key of its own.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Holder {
    /// The client, as `everfresh connect` knows it.
    client: String,
    /// Its file in which the key is.
    file: String,
}

impl From<KeyView> for Key {
    fn from(view: KeyView) -> Self {
        let KeyView { key, is_over, last_used_at } = view;
        let holder = |holder: KeyHolder| Holder { client: holder.client().into(), file: holder.file().into() };
        Self {
            fingerprint: key.hash.fingerprint(),
            holder: key.holder.map(holder),
            servers: key.scope.servers().map(GrantId::to_string).collect(),
            account: key.scope.account().map(AccountName::to_string),
            right: right_name(key.scope.right()),
            may: key.scope.to_string(),
            name: key.name,
            created_at: key.created_at,
            expires_at: key.expires_at,
            expired: is_over,
            last_used_at,
        }
    }
}

fn right_name(right: KeyRight) -> &'static str {
    match right {
        KeyRight::DataPlane => "data_plane",
        KeyRight::Tokens => "tokens",
    }
}

/// The limited keys.
#[derive(Serialize, ToSchema)]
pub(super) struct Keys {
    keys: Vec<Key>,
}

/// A key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyWish {
    /// By what it is to be known.
    #[schema(value_type = String)]
    name: KeyName,
    /// The logins it is to be limited to, as `name` or `name@account`; none for all.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    servers: Vec<GrantId>,
    /// Whose logins it is to stand for.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    account: Option<AccountName>,
    /// `data_plane` (unless said otherwise) or `tokens`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    right: KeyRight,
    /// How many seconds it is to live; for ever where not given.
    #[serde(default)]
    lifetime_s: Option<u64>,
    /// Whether it takes the place of a key of that name, whose secret ends.
    #[serde(default)]
    replace: bool,
    /// The client that it is for, where it is to be in a file of one.
    #[serde(default)]
    holder: Option<Holder>,
}

/// What a key is to open.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyChange {
    /// The logins, as `name` or `name@account`; at least one.
    #[schema(value_type = Vec<String>)]
    servers: Vec<GrantId>,
}

/// A key and its secret, which is told this once.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeKey {
    key: Key,
    /// The secret.
    secret: String,
}

fn made((view, secret): (KeyView, Secret)) -> Json<MadeKey> {
    Json(MadeKey { key: view.into(), secret: secret.expose().to_owned() })
}

/// The full local key.
#[derive(Serialize, ToSchema)]
pub(super) struct LocalKeySecret {
    /// The secret.
    secret: String,
}

/// What the key opens that a request shows.
#[derive(Serialize, ToSchema)]
pub(super) struct OwnKey {
    /// The limited key; null for the full one, which opens all.
    key: Option<Key>,
}

/// What the key opens that this request shows.
#[utoipa::path(get, path = "/api/v1/key", responses((status = 200, body = OwnKey)))]
pub(super) async fn own(State(shared): State<Shared>, Extension(caller): Extension<Caller>) -> Json<OwnKey> {
    let name = match &caller {
        Caller::Limited(held) => Some(held.key.name.clone()),
        Caller::Key | Caller::Page => None,
    };
    let key = name.and_then(|name| shared.guard.keys().list().into_iter().find(|view| view.key.name == name));
    // Where its file is is its owner's to know: whoever shows the key may have found it.
    let told = |view: KeyView| KeyView { key: LimitedKey { holder: None, ..view.key }, ..view };
    Json(OwnKey { key: key.map(told).map(Key::from) })
}

/// Every limited key.
#[utoipa::path(get, path = "/api/v1/keys", responses((status = 200, body = Keys)))]
pub(super) async fn list(State(shared): State<Shared>) -> Json<Keys> {
    Json(Keys { keys: shared.guard.keys().list().into_iter().map(Key::from).collect() })
}

/// Makes a limited key, and tells its secret this once.
#[utoipa::path(post, path = "/api/v1/keys", request_body = KeyWish,
    responses((status = 201, body = MadeKey), (status = 404), (status = 409), (status = 422), (status = 507)))]
pub(super) async fn add(
    State(shared): State<Shared>,
    Body(wish): Body<KeyWish>,
) -> Result<(StatusCode, Json<MadeKey>), Problem> {
    for grant in &wish.servers {
        known(&shared, grant)?;
    }
    if wish.holder.is_some() && wish.servers.is_empty() {
        return Err(invalid("a key for a client's file names the servers that it opens".to_owned()));
    }
    let holder = wish.holder.map(|holder| KeyHolder::new(holder.client, holder.file)).transpose();
    let holder = holder.map_err(|error| invalid(error.to_string()))?;
    let scope = KeyScope::new(wish.servers, wish.account, wish.right).map_err(|error| invalid(error.to_string()))?;
    let lifetime = wish.lifetime_s.map(Duration::from_secs);
    let new = NewKey { name: wish.name, scope, lifetime, replaces: wish.replace, holder };
    Ok((StatusCode::CREATED, made(shared.guard.keys().add(new).await?)))
}

fn invalid(detail: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Invalid key", detail)
}

/// Refuses a login whose server there is not. Of an account nobody has logged in to yet the server is
/// known all the same.
fn known(shared: &Shared, grant: &GrantId) -> Result<(), Problem> {
    let server = shared.application.server(grant);
    server.or_else(|_| shared.application.server(&GrantId::of(grant.server.clone())))?;
    Ok(())
}

/// Lets a limited key open these logins and no others. Its secret stays.
#[utoipa::path(patch, path = "/api/v1/keys/{name}", request_body = KeyChange, params(("name" = String, Path)),
    responses((status = 200, body = Key), (status = 404), (status = 422), (status = 507)))]
pub(super) async fn change(
    State(shared): State<Shared>,
    name: Result<Path<String>, PathRejection>,
    Body(change): Body<KeyChange>,
) -> Result<Json<Key>, Problem> {
    let name = name_in(name)?;
    if change.servers.is_empty() {
        return Err(invalid("a key of no server would open all of them; name at least one".to_owned()));
    }
    let opened = shared.guard.keys().list().into_iter().find(|view| view.key.name == name);
    let is_new = |grant: &&GrantId| !opened.as_ref().is_some_and(|view| view.key.scope.opens(grant));
    for grant in change.servers.iter().filter(is_new) {
        known(&shared, grant)?;
    }
    Ok(Json(shared.guard.keys().change_servers(&name, change.servers).await?.into()))
}

/// Gives a limited key another secret; the one before opens nothing from then on.
#[utoipa::path(post, path = "/api/v1/keys/{name}/rotate", params(("name" = String, Path)),
    responses((status = 200, body = MadeKey), (status = 404), (status = 507)))]
pub(super) async fn rotate(
    State(shared): State<Shared>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<MadeKey>, Problem> {
    Ok(made(shared.guard.keys().rotate(&name_in(name)?).await?))
}

/// Removes a limited key.
#[utoipa::path(delete, path = "/api/v1/keys/{name}", params(("name" = String, Path)),
    responses((status = 204), (status = 404), (status = 507)))]
pub(super) async fn remove(
    State(shared): State<Shared>,
    name: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    shared.guard.keys().remove(&name_in(name)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes another full local key: the one before opens nothing from then on, and the page is closed.
#[utoipa::path(post, path = "/api/v1/local-key/rotate",
    responses((status = 200, body = LocalKeySecret), (status = 409), (status = 507)))]
pub(super) async fn rotate_local(State(shared): State<Shared>) -> Result<Json<LocalKeySecret>, Problem> {
    let secret = shared.guard.keys().rotate_local().await?;
    Ok(Json(LocalKeySecret { secret: secret.expose().to_owned() }))
}

fn name_in(name: Result<Path<String>, PathRejection>) -> Result<KeyName, Problem> {
    let name = name.map_err(|error| Problem::not_found(error.to_string()))?.0;
    let no_such = |_| Problem::new(StatusCode::NOT_FOUND, "no-such-key", "No such key", "there is no key of that name");
    name.parse().map_err(no_such)
}
