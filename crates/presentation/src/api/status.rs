//! The daemon itself: alive, ready, counted, and the way to its page.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::Shared;

/// Whether everything works.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    ready: bool,
    /// Why not.
    reasons: Vec<String>,
}

/// 200 while the process lives.
#[utoipa::path(get, path = "/healthz", responses((status = 200)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// 200 once store, engine and listener work; else 503 with reasons.
#[utoipa::path(get, path = "/readyz", responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
pub(super) async fn readyz(State(shared): State<Shared>) -> (StatusCode, Json<Readiness>) {
    let reasons = shared.application.not_ready();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready: reasons.is_empty(), reasons }))
}

/// Prometheus text.
#[utoipa::path(get, path = "/metrics", responses((status = 200)))]
pub(super) async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    if let Err(problem) = shared.guard.check_unlimited(&headers) {
        return problem.into_response();
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (shared.metrics)()).into_response()
}

/// The daemon.
#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    version: &'static str,
    /// Its process.
    pid: u32,
    /// Where it is.
    base_url: String,
    ready: bool,
    /// Why not.
    reasons: Vec<String>,
    /// What is noteworthy about the store.
    store_warnings: Vec<String>,
}

/// The daemon, for `doctor`.
#[utoipa::path(get, path = "/api/v1/status", responses((status = 200, body = Status)))]
pub(super) async fn status(State(shared): State<Shared>) -> Json<Status> {
    let reasons = shared.application.not_ready();
    Json(Status {
        version: shared.version,
        pid: std::process::id(),
        base_url: shared.base_url.clone(),
        ready: reasons.is_empty(),
        reasons,
        store_warnings: shared.application.store_warnings(),
    })
}

/// A link that opens the page once.
#[derive(Serialize, ToSchema)]
pub(super) struct PageLink {
    url: String,
}

/// Makes a link that opens the page once, within ten minutes.
#[utoipa::path(post, path = "/api/v1/page-link", responses((status = 200, body = PageLink)))]
pub(super) async fn page_link(State(shared): State<Shared>) -> Json<PageLink> {
    let link = shared.guard.new_link(shared.application.now(), &*Arc::clone(&shared.entropy));
    Json(PageLink { url: format!("{}/?once={link}", shared.base_url) })
}
