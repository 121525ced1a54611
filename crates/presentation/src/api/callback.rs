//! Where the provider sends people back to, and what they read then.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use everfresh_application::{AppError, CallbackQuery, LoginError, LoginFinished};
use everfresh_domain::Secret;
use everfresh_domain::login::LoginOutcome;
use http::StatusCode;
use serde::Deserialize;

use super::Shared;
use super::logins::told;
use crate::page;

/// The parameters of RFC 6749 section 4.1.2 and RFC 9207.
#[derive(Deserialize)]
pub(super) struct Answer {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// The query alone, as the route reads it.
#[cfg(feature = "fuzzing")]
pub(crate) fn read(query: &str) {
    if let Ok(uri) = format!("/oauth/callback?{query}").parse::<http::Uri>() {
        drop(Query::<Answer>::try_from_uri(&uri));
    }
}

/// Takes the provider's answer. The login goes on even if the browser goes away.
#[utoipa::path(get, path = "/oauth/callback", responses((status = 200), (status = 400)))]
pub(super) async fn callback(State(shared): State<Shared>, answer: Result<Query<Answer>, QueryRejection>) -> Response {
    let Ok(Query(answer)) = answer else {
        let text = "The answer that led here cannot be read. Try again with: everfresh login NAME";
        return (StatusCode::BAD_REQUEST, page::message("Not logged in", text)).into_response();
    };
    let answer = CallbackQuery {
        code: answer.code.map(Secret::new),
        state: answer.state.map(Secret::new),
        iss: answer.iss,
        error: answer.error,
        error_description: answer.error_description,
    };
    let (status, title, text) = match shared.application.finish_login(answer).await {
        Ok(finished) => ended(&finished),
        Err(AppError::Login(LoginError::AnsweredBefore(finished))) => {
            let (status, title, text) = ended(&finished);
            (status, title, format!("This page was opened before; nothing more was done. {text}"))
        }
        Err(error) => {
            let text = format!("{}. Try again with: everfresh login NAME", begun_large(&error.to_string()));
            (StatusCode::BAD_REQUEST, "Not logged in".to_owned(), text)
        }
    };
    (status, page::message(&title, &text)).into_response()
}

/// A message as the beginning of a sentence.
fn begun_large(message: &str) -> String {
    let mut letters = message.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Status, title and text of a login's end.
fn ended(finished: &LoginFinished) -> (StatusCode, String, String) {
    let name = finished.grant.to_string();
    if finished.outcome != LoginOutcome::Succeeded {
        let text = format!("{} Try again with: everfresh login {name}", told(&finished.outcome));
        return (StatusCode::BAD_REQUEST, format!("Not logged in to {name}"), text);
    }
    let lasts = finished.lasts_until.map_or_else(
        || "everfresh keeps this login fresh from here on.".to_owned(),
        |until| format!("The provider gave no refresh token: this login lasts until {until}."),
    );
    let missing = match finished.scopes_not_granted.as_slice() {
        [] => String::new(),
        scopes => format!(" The provider did not grant: {}.", scopes.join(" ")),
    };
    (StatusCode::OK, format!("Logged in to {name}"), format!("{lasts}{missing} You can close this window."))
}
