//! One change, as `list --watch -o json` prints it: a line of JSON each.

use everfresh_domain::Timestamp;
use everfresh_presentation::api::views::Server;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// One line of `everfresh list --watch -o json`. Fields that do not apply are left out.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Change {
    /// What happened: `snapshot`, which comes first and after every reconnect and says where everything
    /// stands; `servers.changed`, `oauth.token_refreshed`, `oauth.refresh_failed`,
    /// `oauth.login_required`; or `daemon.gone`, after which a `snapshot` follows once it is back.
    pub(crate) event: String,
    /// When.
    #[schema(format = DateTime)]
    pub(crate) at: String,
    /// Which login it is about: NAME or NAME@ACCOUNT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grant: Option<String>,
    /// What is to be said about the event itself: the new generation, or why an attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub(crate) detail: Option<Value>,
    /// The login as it is after it; left out where it is no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Server>)]
    pub(crate) server: Option<Value>,
    /// Of a snapshot: every login.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Server>>)]
    pub(crate) servers: Option<Vec<Value>>,
    /// Of a snapshot: what is wrong with the daemon itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub(crate) problems: Option<Value>,
    /// Of `daemon.gone`: why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

impl Change {
    /// An event of the stream, which came at `now` if it does not say when.
    pub(super) fn of(event: &str, data: &Value, now: Timestamp) -> Self {
        let taken = |field: &str| data.get(field).filter(|value| !value.is_null()).cloned();
        Self {
            event: event.to_owned(),
            at: data["at"].as_str().map_or_else(|| now.to_string(), str::to_owned),
            grant: data["grant"].as_str().map(str::to_owned),
            detail: taken("detail"),
            server: taken("server"),
            servers: data["servers"].as_array().cloned(),
            problems: taken("problems"),
            message: None,
        }
    }

    /// The daemon does not answer.
    pub(super) fn gone(message: &str, now: Timestamp) -> Self {
        Self { message: Some(message.to_owned()), ..Self::of("daemon.gone", &Value::Null, now) }
    }
}
