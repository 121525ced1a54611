//! Logins: where they begin, and how they end.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use everfresh_domain::login::{FlowId, LoginOutcome};

use super::views::{LoginStarted, LoginState};
use super::{Grant, Shared};
use crate::problem::Problem;

/// How long a question for a login's end is held open.
const HELD: Duration = Duration::from_secs(20);

/// Begins a login, or returns the one that is pending.
#[utoipa::path(post, path = "/api/v1/servers/{name}/login", params(("name" = String, Path)),
    responses((status = 200, body = LoginStarted), (status = 404), (status = 422), (status = 502)))]
pub(super) async fn start(State(shared): State<Shared>, Grant(grant): Grant) -> Result<Json<LoginStarted>, Problem> {
    let started = shared.application.start_login(&grant, None).await?;
    Ok(Json(LoginStarted {
        authorization_url: started.authorization_url,
        expires_at: started.expires_at,
        flow_id: started.flow.to_string(),
    }))
}

/// How a login ended. Answers when it has, or after a while that it has not.
#[utoipa::path(get, path = "/api/v1/logins/{flow}", params(("flow" = String, Path)),
    responses((status = 200, body = LoginState), (status = 404)))]
pub(super) async fn outcome(
    State(shared): State<Shared>,
    flow: Result<Path<String>, PathRejection>,
) -> Result<Json<LoginState>, Problem> {
    let flow = flow.ok().and_then(|Path(flow)| u64::from_str_radix(&flow, 16).ok());
    let flow = flow.ok_or_else(|| Problem::not_found("there is no such login"))?;
    let ended = tokio::time::timeout(HELD, shared.application.login_outcome(FlowId(flow))).await;
    Ok(Json(match ended {
        Ok(outcome) => described(&outcome),
        Err(_) => LoginState { state: "pending", message: String::new() },
    }))
}

/// A login's end, in words.
pub(super) fn described(outcome: &LoginOutcome) -> LoginState {
    let (state, message) = match outcome {
        LoginOutcome::Succeeded => ("succeeded", "You are logged in.".to_owned()),
        LoginOutcome::Denied { code } => ("denied", format!("The provider said no: {code}")),
        LoginOutcome::TimedOut => ("timed_out", "Nobody came back in time.".to_owned()),
        LoginOutcome::Cancelled => ("cancelled", "This login was taken back, or is not known any more.".to_owned()),
        LoginOutcome::Failed { message } => ("failed", message.clone()),
    };
    LoginState { state, message }
}
