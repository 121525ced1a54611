//! Logins: where they begin, and how they end.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use everfresh_application::LoginFinished;
use everfresh_domain::login::{FlowId, LoginOutcome};
use http::StatusCode;

use super::views::{LoginStarted, LoginState, LoginWish, PastedAnswer};
use super::{Body, Grant, Shared};
use crate::problem::Problem;

/// How long a question for a login's end is held open.
const HELD: Duration = Duration::from_secs(20);

/// Begins a login, or returns the one that is pending. The body may be left out.
#[utoipa::path(post, path = "/api/v1/servers/{name}/login", request_body = Option<LoginWish>,
    params(("name" = String, Path)),
    responses((status = 200, body = LoginStarted), (status = 404), (status = 422), (status = 502)))]
pub(super) async fn start(
    State(shared): State<Shared>,
    Grant(grant): Grant,
    body: Bytes,
) -> Result<Json<LoginStarted>, Problem> {
    let wish = if body.is_empty() { LoginWish::default() } else { read(&body)? };
    let started = if wish.new_client {
        shared.application.start_login_as_new_client(&grant, wish.way).await?
    } else {
        shared.application.start_login(&grant, wish.way).await?
    };
    Ok(Json(started.into()))
}

fn read(body: &[u8]) -> Result<LoginWish, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Invalid request", error.to_string())
    })
}

/// The login that is pending, as it was told when it began.
#[utoipa::path(get, path = "/api/v1/servers/{name}/login", params(("name" = String, Path)),
    responses((status = 200, body = LoginStarted), (status = 404)))]
pub(super) async fn under_way(
    State(shared): State<Shared>,
    Grant(grant): Grant,
) -> Result<Json<LoginStarted>, Problem> {
    let started = shared.application.login_under_way(&grant)?;
    let none = || {
        let detail = format!("no login of {grant} is pending; begin one with: everfresh login {grant}");
        Problem::new(StatusCode::NOT_FOUND, "no-such-login", "No such login", detail)
    };
    Ok(Json(started.ok_or_else(none)?.into()))
}

/// How a login ended. Answers when it has, or after a while that it has not.
#[utoipa::path(get, path = "/api/v1/logins/{flow}", params(("flow" = String, Path)),
    responses((status = 200, body = LoginState), (status = 404)))]
pub(super) async fn outcome(
    State(shared): State<Shared>,
    flow: Result<Path<String>, PathRejection>,
) -> Result<Json<LoginState>, Problem> {
    Ok(Json(end_of(&shared, flow_in(flow)?).await))
}

/// Takes back a login that waits for its answer, and tells how it ended: one whose answer came before
/// is let end, and that is waited for.
#[utoipa::path(delete, path = "/api/v1/logins/{flow}", params(("flow" = String, Path)),
    responses((status = 200, body = LoginState), (status = 404)))]
pub(super) async fn cancel(
    State(shared): State<Shared>,
    flow: Result<Path<String>, PathRejection>,
) -> Result<Json<LoginState>, Problem> {
    let flow = flow_in(flow)?;
    shared.application.take_back_login(flow);
    Ok(Json(end_of(&shared, flow).await))
}

async fn end_of(shared: &Shared, flow: FlowId) -> LoginState {
    match tokio::time::timeout(HELD, shared.application.login_end(flow)).await {
        Ok(Some(finished)) => described(&finished),
        Ok(None) => state("cancelled", told(&LoginOutcome::Cancelled)),
        Err(_) => state("pending", String::new()),
    }
}

/// Takes the address that a browser was sent to as the answer to a login, where the callback cannot
/// be reached from it.
#[utoipa::path(post, path = "/api/v1/logins/{flow}/answer", request_body = PastedAnswer,
    params(("flow" = String, Path)),
    responses((status = 200, body = LoginState), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn answer(
    State(shared): State<Shared>,
    flow: Result<Path<String>, PathRejection>,
    Body(pasted): Body<PastedAnswer>,
) -> Result<Json<LoginState>, Problem> {
    let finished = shared.application.paste_login(flow_in(flow)?, &pasted.url).await?;
    Ok(Json(described(&finished)))
}

fn flow_in(flow: Result<Path<String>, PathRejection>) -> Result<FlowId, Problem> {
    let flow = flow.ok().and_then(|Path(flow)| u64::from_str_radix(&flow, 16).ok());
    flow.map(FlowId).ok_or_else(|| Problem::not_found("there is no such login"))
}

/// A login's end.
fn described(finished: &LoginFinished) -> LoginState {
    let name = match &finished.outcome {
        LoginOutcome::Succeeded => "succeeded",
        LoginOutcome::Denied { .. } => "denied",
        LoginOutcome::TimedOut => "timed_out",
        LoginOutcome::Cancelled => "cancelled",
        LoginOutcome::Failed { .. } => "failed",
    };
    LoginState {
        lasts_until: finished.lasts_until,
        scopes_not_granted: finished.scopes_not_granted.clone(),
        ..state(name, told(&finished.outcome))
    }
}

fn state(name: &'static str, message: String) -> LoginState {
    LoginState { state: name, message, lasts_until: None, scopes_not_granted: Vec::new() }
}

/// A login's end in words.
pub(super) fn told(outcome: &LoginOutcome) -> String {
    match outcome {
        LoginOutcome::Succeeded => "You are logged in.".to_owned(),
        LoginOutcome::Denied { code } if code == "access_denied" => {
            "The provider says that the login was declined, by you or by a rule of its own (access_denied).".to_owned()
        }
        LoginOutcome::Denied { code } => format!("The provider said no: {code}."),
        LoginOutcome::TimedOut => "Nobody came back in time. Where the provider's page speaks of an unknown client or \
                                   redirect URI, log in with --new-client."
            .to_owned(),
        LoginOutcome::Cancelled => {
            "This login was taken back, or another took its place, or it is not known any more.".to_owned()
        }
        LoginOutcome::Failed { message } => format!("{}.", message.trim_end_matches('.')),
    }
}
