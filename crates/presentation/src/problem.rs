//! Errors as `application/problem+json` (RFC 9457), with types that stay the same.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use everfresh_application::ports::{DiscoveryError, RegistrationError, StoreError};
use everfresh_application::{AppError, Denial, ImportError, KeyError, LoginError};
use everfresh_domain::health::HealthAction;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

/// What every problem's `type` begins with.
pub const TYPE_PREFIX: &str = "urn:everfresh:problem:";

/// When to ask again where nothing is known to happen before: a person may have logged in by then.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// One problem.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// What kind it is, for programs.
    #[serde(rename = "type")]
    pub kind: String,
    /// What kind it is, for people.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What happened, to what, and what to do.
    pub detail: String,
    /// The reason, as in health, where it is about a login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The action, as in health.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<HealthAction>,
    /// Which member of the request it is about (RFC 6901), where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<Box<str>>,
    /// When to ask again.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

impl Problem {
    /// A problem of the kind `name`.
    pub fn new(status: StatusCode, name: &str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("{TYPE_PREFIX}{name}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            reason: None,
            action: None,
            pointer: None,
            retry_after: None,
        }
    }

    /// The same, about this member of the request.
    pub fn about(self, pointer: impl Into<Box<str>>) -> Self {
        Self { pointer: Some(pointer.into()), ..self }
    }

    /// There is no such thing here.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// No token for a request.
    pub fn denied(denial: &Denial) -> Self {
        let health = &denial.health;
        let (name, title) = match health.action {
            HealthAction::Login => ("login-needed", "Login needed"),
            HealthAction::Enable => ("disabled", "Server disabled"),
            HealthAction::Retry | HealthAction::ViewLogs | HealthAction::Configure | HealthAction::None => {
                ("token-unavailable", "No valid token now")
            }
        };
        let mut detail = format!("{}: {}", denial.grant, health.summary);
        if let Some(command) = health.action.command(&denial.grant) {
            detail += &format!(". Run: {command}");
        }
        Self {
            reason: Some(health.reason.as_str()),
            action: Some(health.action),
            retry_after: denial.retry_after,
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, name, title, detail)
        }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The seconds of `Retry-After`: whoever is refused for the time being is told for how long.
    pub fn retry_after_secs(&self) -> Option<u64> {
        let known = self.retry_after.map(|wait| wait.as_secs().max(1));
        known.or_else(|| (self.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(ASK_AGAIN.as_secs()))
    }

    /// The body.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (mut response, wait) = ((self.status(), self.to_json()).into_response(), self.retry_after_secs());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = wait {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<AppError> for Problem {
    fn from(error: AppError) -> Self {
        let detail = error.to_string();
        let of = |status, name, title| Self::new(status, name, title, detail.clone());
        match error {
            AppError::NoSuchServer(_) => of(StatusCode::NOT_FOUND, "no-such-server", "No such server"),
            AppError::NameTaken(_) => of(StatusCode::CONFLICT, "name-taken", "Name taken"),
            AppError::DefinedInFile(_) => {
                of(StatusCode::CONFLICT, "defined-in-file", "Defined in the configuration file")
            }
            AppError::Invalid(_) => of(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Invalid settings"),
            AppError::Store(error) => store(&error, detail),
            AppError::Login(error) => login(&error, detail),
            AppError::Import(error) => import(&error, detail),
            AppError::Denied(denial) => Self::denied(&denial),
        }
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        let (status, name, title) = match &error {
            KeyError::NoSuchKey(_) => (StatusCode::NOT_FOUND, "no-such-key", "No such key"),
            KeyError::NameTaken(_) => (StatusCode::CONFLICT, "name-taken", "Name taken"),
            KeyError::TooMany => (StatusCode::CONFLICT, "too-many-keys", "Too many keys"),
            KeyError::LocalKeyIsGiven => (StatusCode::CONFLICT, "key-given", "Given by the environment"),
            KeyError::Scope(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Invalid key"),
            KeyError::Files(_) => (StatusCode::INSUFFICIENT_STORAGE, "store", "The store failed"),
        };
        Self::new(status, name, title, error.to_string())
    }
}

fn store(error: &StoreError, detail: String) -> Problem {
    match error {
        StoreError::Conflict { .. } => Problem::new(StatusCode::CONFLICT, "conflict", "Changed meanwhile", detail),
        StoreError::Unreadable { .. } | StoreError::Unwritable { .. } => {
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, "store", "The store failed", detail)
        }
    }
}

fn import(error: &ImportError, detail: String) -> Problem {
    let (status, name, title) = match error {
        ImportError::Unusable(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Login not usable"),
        ImportError::AlreadyHere(_) => (StatusCode::CONFLICT, "imported-before", "Imported before"),
        ImportError::LoggedIn(_) => (StatusCode::CONFLICT, "logged-in", "Logged in already"),
        ImportError::OtherServer { .. } => (StatusCode::CONFLICT, "name-taken", "Name taken"),
        ImportError::OtherIssuer { .. } => {
            (StatusCode::UNPROCESSABLE_ENTITY, "login-impossible", "Another authorization server")
        }
        ImportError::NotUndoable { .. } => (StatusCode::CONFLICT, "not-undoable", "Not undoable"),
    };
    Problem::new(status, name, title, detail)
}

fn login(error: &LoginError, detail: String) -> Problem {
    let unreachable = (StatusCode::BAD_GATEWAY, "provider-unreachable", "Provider unreachable");
    let refused = (StatusCode::UNPROCESSABLE_ENTITY, "login-impossible", "Login not possible");
    let (status, name, title) = match error {
        LoginError::UnknownState => (StatusCode::NOT_FOUND, "no-such-login", "No such login"),
        LoginError::AnsweredBefore(_) => (StatusCode::CONFLICT, "answered-before", "Answered before"),
        LoginError::Pasted(_) => (StatusCode::UNPROCESSABLE_ENTITY, "not-the-answer", "Not the answer"),
        LoginError::Discovery(DiscoveryError::Unreachable { .. })
        | LoginError::Registration(RegistrationError::Unreachable { .. }) => unreachable,
        LoginError::Discovery(DiscoveryError::NotProtected { .. }) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "not-protected", "No login needed")
        }
        LoginError::Discovery(DiscoveryError::Refused { .. } | DiscoveryError::NotFound { .. })
        | LoginError::Registration(RegistrationError::Refused { .. } | RegistrationError::Unsupported { .. })
        | LoginError::NoCommonProof(_)
        | LoginError::NoDeviceLogin { .. }
        | LoginError::DeviceRefused { .. }
        | LoginError::IssuerChanged { .. }
        | LoginError::Secret(_)
        | LoginError::Unattended(_) => refused,
        LoginError::Proof(_) => (StatusCode::INTERNAL_SERVER_ERROR, "no-proof", "No proof of possession"),
        LoginError::Store(error) => return store(error, detail),
    };
    Problem::new(status, name, title, detail)
}
