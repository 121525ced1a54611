//! The API and all other routes but the data plane's.
//!
//! Every request passes the guard's check of `Host` and `Origin`; `/api` and `/events` need the
//! local key, or the page's cookie with its proof, from the page itself.

pub(crate) mod callback;
mod events;
mod imports;
mod keys;
mod logins;
mod notify;
mod openapi;
mod servers;
mod status;
mod timeline;
pub mod views;

use std::ops::Deref;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use axum::{Extension, Json, Router};
use everfresh_domain::GrantId;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use http::request::Parts as Head;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::de::DeserializeOwned;

use crate::guard::{Caller, Guard, Purpose};
use crate::help;
use crate::page;
use crate::problem::Problem;
use crate::server::Parts;

pub use timeline::Timeline;

/// What every route can use.
pub(crate) struct Surfaces {
    parts: Parts,
    /// Tells this life of the daemon from every other.
    run: String,
}

impl Deref for Surfaces {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// Shared by all routes.
pub(crate) type Shared = Arc<Surfaces>;

/// Random bytes that tell one life of the daemon from another.
const RUN_BYTES: usize = 8;

/// The longest body that an API call may have.
const BODY_MAX: usize = 64 * 1024;

pub(crate) fn router(parts: Parts) -> Router {
    let run = parts.entropy.bytes().iter().take(RUN_BYTES).map(|byte| format!("{byte:02x}")).collect();
    let shared = Arc::new(Surfaces { parts, run });
    let api = Router::new()
        .route("/api/v1/servers", get(servers::list).post(servers::add))
        .route("/api/v1/servers/{name}", get(servers::show).patch(servers::change).delete(servers::remove))
        .route("/api/v1/servers/{name}/login", get(logins::under_way).post(logins::start))
        .route("/api/v1/servers/{name}/logout", post(servers::logout))
        .route("/api/v1/servers/{name}/refresh", post(servers::refresh))
        .route("/api/v1/servers/{name}/enable", post(servers::enable))
        .route("/api/v1/servers/{name}/disable", post(servers::disable))
        .route("/api/v1/servers/{name}/journal", get(servers::journal))
        .route("/api/v1/servers/{name}/timeline", get(timeline::timeline))
        .route("/api/v1/logins/{flow}", get(logins::outcome).delete(logins::cancel))
        .route("/api/v1/logins/{flow}/answer", post(logins::answer))
        .route("/api/v1/notify/test", post(notify::test))
        .route("/api/v1/status", get(status::status))
        .route("/events", get(events::events))
        .method_not_allowed_fallback(not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), demand_key));
    let tokens = Router::new()
        .route("/api/v1/servers/{name}/token", get(servers::token))
        .route("/api/v1/page-link", post(status::page_link))
        .route("/api/v1/key", get(keys::own))
        .route("/api/v1/keys", get(keys::list).post(keys::add))
        .route("/api/v1/keys/{name}", patch(keys::change).delete(keys::remove))
        .route("/api/v1/keys/{name}/rotate", post(keys::rotate))
        .route("/api/v1/local-key/rotate", post(keys::rotate_local))
        .route("/api/v1/servers/{name}/settings", get(servers::settings))
        .route("/api/v1/imports", post(imports::take))
        .route("/api/v1/imports/{name}", delete(imports::undo))
        .method_not_allowed_fallback(not_allowed)
        .layer(middleware::from_fn(programs_only))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), demand_key));
    Router::new()
        .merge(api)
        .merge(tokens)
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .route("/metrics", get(status::metrics))
        .route("/oauth/callback", get(callback::callback))
        .route("/openapi.json", get(openapi::document))
        .route("/", get(page::page))
        .route("/page/{file}", get(page::asset))
        .route("/help", get(help::help))
        .route("/help.css", get(help::style))
        .fallback(fallback)
        .method_not_allowed_fallback(not_allowed)
        .layer(axum::extract::DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), check_place))
        .layer(middleware::map_response(harden))
        .with_state(shared)
}

/// 404 as JSON, also where an MCP client looks for an authorization server: finding one here, it
/// would start its own OAuth against us.
async fn fallback() -> Problem {
    Problem::not_found("there is nothing here; servers are under /mcp/NAME, the API under /api/v1")
}

async fn not_allowed() -> Problem {
    let detail = "this is not done by that method; the header Allow names those there are";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed", detail)
}

async fn check_place(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    match shared.guard.check_place(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

async fn demand_key(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    let site = Guard::check_site(request.headers());
    let caller = site.and_then(|()| shared.guard.caller(shared.application.now(), request.headers()));
    let purpose = purpose(request.method(), request.uri().path());
    match caller.and_then(|caller| caller.may(&purpose).map(|()| caller)) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// What a request is for. Whatever is not known to be less is for the owner of the logins.
fn purpose(method: &Method, path: &str) -> Purpose {
    let own = (Purpose::OwnKey, "/api/v1/key");
    let all = (Purpose::Logins, "/api/v1/servers");
    if let Some((purpose, _)) = [own, all].into_iter().find(|(_, whole)| *method == Method::GET && *whole == path) {
        return purpose;
    }
    let Some(named) = path.strip_prefix("/api/v1/servers/") else { return Purpose::Owner };
    let (name, what) = named.split_once('/').unwrap_or((named, ""));
    let is_token = match what {
        "" | "token" => *method == Method::GET,
        "refresh" => *method == Method::POST,
        _ => false,
    };
    // A name that the handlers would decode to another one is none here.
    let grant = name.replace("%40", "@").parse().ok().filter(|_| is_token);
    grant.map_or(Purpose::Owner, Purpose::Token)
}

/// A page is no place for secrets, nor for what opens more pages.
async fn programs_only(Extension(caller): Extension<Caller>, request: Request, next: Next) -> Response {
    match caller {
        Caller::Key | Caller::Limited(_) => next.run(request).await,
        Caller::Page => Guard::key_needed().into_response(),
    }
}

/// Headers that keep browsers from doing more with an answer than they should.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let defaults = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, page::CONTENT_POLICY),
        (HeaderName::from_static("permissions-policy"), page::PERMISSIONS),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in defaults {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// The grant in a path, `name` or `name@account`, as it is for whoever asks.
pub(crate) struct Grant(pub(crate) GrantId);

impl<S: Send + Sync> FromRequestParts<S> for Grant {
    type Rejection = Problem;

    async fn from_request_parts(head: &mut Head, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::<String>::from_request_parts(head, state).await;
        let name = path.map_err(|error| Problem::not_found(error.to_string()))?.0;
        let no_such = || Problem::from(everfresh_application::AppError::NoSuchServer(name.clone()));
        let grant = name.parse().map_err(|_| no_such())?;
        match head.extensions.get::<Caller>() {
            Some(caller) => caller.grant(grant).map(Self),
            None => Err(Guard::key_needed()),
        }
    }
}

/// The query, read with words that say where it is wrong.
pub(crate) struct Asked<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(head: &mut Head, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::<T>::from_request_parts(head, state).await;
        query
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad-query", "Bad query", error.body_text()))
    }
}

/// A JSON body, read with words that say where it is wrong.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> axum::extract::FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let json = Json::<T>::from_request(request, state).await;
        json.map(|Json(value)| Self(value)).map_err(|error| {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Invalid request", error.body_text())
        })
    }
}
