//! Dynamic client registration (RFC 7591).

use std::time::Duration;

use everfresh_application::ServerSettings;
use everfresh_application::ports::{Discovered, RegistrationError};
use everfresh_domain::grant::{ClientAuthMethod, ClientRegistration};
use everfresh_domain::{Secret, Timestamp};
use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE};
use serde::Serialize;

use super::classify::printable;
use super::parse::{members, number, text};
use super::request::DEVICE_CODE_GRANT;
use super::wire::{self, Answer, Body};
use super::{HttpOAuth, PATIENCE};

/// What is asked for (RFC 7591 section 2; `application_type` of OpenID Connect registration).
#[derive(Serialize)]
struct Wanted<'a> {
    client_name: &'static str,
    redirect_uris: &'a [String],
    grant_types: Vec<&'static str>,
    response_types: [&'static str; 1],
    token_endpoint_auth_method: ClientAuthMethod,
    application_type: &'static str,
    /// RFC 9449 section 5.2.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dpop_bound_access_tokens: bool,
}

/// What is granted (RFC 7591 section 3.2.1).
struct Granted {
    client_id: String,
    client_secret: Option<Secret>,
    /// In seconds since 1970; zero means never.
    client_secret_expires_at: Option<Duration>,
    token_endpoint_auth_method: Option<String>,
}

/// Why there is no client.
#[derive(Debug, PartialEq, Eq)]
enum NotGranted {
    /// The endpoint is not well; asking later may help.
    Unwell(String),
    /// It said no.
    Refused(String),
}

pub(super) async fn register(
    oauth: &HttpOAuth,
    server: &ServerSettings,
    discovered: &Discovered,
    redirect_uris: &[String],
) -> Result<ClientRegistration, RegistrationError> {
    let issuer = &discovered.issuer;
    let Some(endpoint) = &discovered.registration_endpoint else {
        return Err(RegistrationError::Unsupported { issuer: issuer.clone() });
    };
    let refused = |cause: String| RegistrationError::Refused { issuer: issuer.clone(), cause };
    let unreachable = |cause: String| RegistrationError::Unreachable { issuer: issuer.clone(), cause };
    let wanted = Wanted {
        client_name: "everfresh",
        redirect_uris,
        grant_types: grant_types(discovered),
        response_types: ["code"],
        token_endpoint_auth_method: preferred(&discovered.token_endpoint_auth_methods),
        application_type: "native",
        dpop_bound_access_tokens: discovered.binds_tokens(server.oauth.dpop),
    };
    let body = serde_json::to_vec(&wanted).map_err(|error| refused(error.to_string()))?;
    let request =
        http::Request::post(endpoint).header(CONTENT_TYPE, "application/json").header(ACCEPT, "application/json");
    let request = request.body(body).map_err(|error| refused(error.to_string()))?;
    let late = || unreachable(format!("no answer within {} s", PATIENCE.as_secs()));
    let answer = tokio::time::timeout(PATIENCE, oauth.send(server, request)).await.map_err(|_| late())?;
    let answer = answer.map_err(|failure| unreachable(wire::cause(failure)))?;
    let granted = granted(&answer).map_err(|problem| match problem {
        NotGranted::Unwell(cause) => unreachable(cause),
        NotGranted::Refused(cause) => refused(cause),
    })?;
    Ok(registration(granted, wanted.token_endpoint_auth_method, issuer, redirect_uris))
}

/// What the client will ask for tokens with. Device codes only where they are to be had: a provider
/// may refuse a grant type that it does not know.
fn grant_types(discovered: &Discovered) -> Vec<&'static str> {
    let device = discovered.device_authorization_endpoint.as_ref().map(|_| DEVICE_CODE_GRANT);
    ["authorization_code", "refresh_token"].into_iter().chain(device).collect()
}

/// The way of client authentication to ask for: none at all where that is offered or nothing is said.
fn preferred(offered: &[String]) -> ClientAuthMethod {
    let offers = |method: &str| offered.iter().any(|offered| offered == method);
    if offered.is_empty() || offers("none") {
        ClientAuthMethod::None
    } else if offers("client_secret_basic") {
        ClientAuthMethod::ClientSecretBasic
    } else {
        ClientAuthMethod::ClientSecretPost
    }
}

fn granted(answer: &Answer) -> Result<Granted, NotGranted> {
    let status = answer.status.as_u16();
    if answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS {
        return Err(NotGranted::Unwell(format!("it answered {status}")));
    }
    let Body::Whole(body) = &answer.body else {
        return Err(NotGranted::Unwell(format!("it answered {status} with no usable body")));
    };
    let told = members(body).unwrap_or_default();
    let of = |name: &str| text(&told, name).map(str::to_owned);
    if answer.status.is_success() {
        let nothing = || NotGranted::Refused(format!("it answered {status} without a client_id"));
        return Ok(Granted {
            client_id: of("client_id").ok_or_else(nothing)?,
            client_secret: of("client_secret").map(Secret::new),
            client_secret_expires_at: told.get("client_secret_expires_at").and_then(number),
            token_endpoint_auth_method: of("token_endpoint_auth_method"),
        });
    }
    let code = text(&told, "error").map(printable);
    let description = text(&told, "error_description").map(printable);
    Err(NotGranted::Refused(match (code, description) {
        (Some(code), Some(description)) => format!("{code}: {description}"),
        (Some(code), None) => code,
        (None, _) => format!("it answered {status}; set oauth.client_id to a client registered by hand"),
    }))
}

/// What a registration answers, as fuzzing has it.
#[cfg(feature = "fuzzing")]
pub(super) fn read(answer: &Answer) {
    drop(granted(answer));
}

fn registration(
    granted: Granted,
    wanted: ClientAuthMethod,
    issuer: &str,
    redirect_uris: &[String],
) -> ClientRegistration {
    let client_secret = granted.client_secret;
    let auth_method = match (granted.token_endpoint_auth_method.as_deref(), &client_secret) {
        (_, None) | (Some("none"), _) => ClientAuthMethod::None,
        (Some("client_secret_post"), Some(_)) => ClientAuthMethod::ClientSecretPost,
        (Some("client_secret_basic"), Some(_)) => ClientAuthMethod::ClientSecretBasic,
        // A secret without a word on its use: as asked, and Basic where none was asked for.
        (_, Some(_)) if wanted == ClientAuthMethod::ClientSecretPost => ClientAuthMethod::ClientSecretPost,
        (_, Some(_)) => ClientAuthMethod::ClientSecretBasic,
    };
    let end = granted.client_secret_expires_at.filter(|end| !end.is_zero() && client_secret.is_some());
    ClientRegistration {
        issuer: issuer.to_owned(),
        client_id: granted.client_id,
        client_secret,
        private_key: None,
        auth_method,
        secret_expires_at: end.map(|end| Timestamp::EPOCH.after(end)),
        redirect_uris: redirect_uris.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;

    fn answered(status: u16, body: &str) -> Result<ClientRegistration, NotGranted> {
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Body::Whole(Bytes::copy_from_slice(body.as_bytes())),
        };
        granted(&answer).map(|granted| registration(granted, ClientAuthMethod::None, "https://as.example", &[]))
    }

    #[test]
    fn the_returned_method_counts_and_a_secret_without_one_means_basic() {
        let cases = [
            (r#"{"client_id":"c"}"#, ClientAuthMethod::None),
            (r#"{"client_id":"c","client_secret":""}"#, ClientAuthMethod::None),
            (r#"{"client_id":"c","client_secret":"s"}"#, ClientAuthMethod::ClientSecretBasic),
            (
                r#"{"client_id":"c","client_secret":"s","token_endpoint_auth_method":"client_secret_post"}"#,
                ClientAuthMethod::ClientSecretPost,
            ),
            (r#"{"client_id":"c","client_secret":"s","token_endpoint_auth_method":"none"}"#, ClientAuthMethod::None),
        ];
        for (body, expected) in cases {
            assert_eq!(answered(201, body).unwrap().auth_method, expected, "{body}");
        }
    }

    #[test]
    fn the_end_of_a_secret_is_kept_and_zero_means_never() {
        let end = |body: &str| answered(200, body).unwrap().secret_expires_at;
        assert_eq!(end(r#"{"client_id":"c","client_secret":"s","client_secret_expires_at":0}"#), None);
        for written in ["1795000000", "\"1795000000\"", "1795000000.0"] {
            let body = format!(r#"{{"client_id":"c","client_secret":"s","client_secret_expires_at":{written}}}"#);
            assert_eq!(end(&body), Some(Timestamp::from_millis(1_795_000_000_000)), "{written}");
        }
        for written in ["null", "-1", "\"never\""] {
            let body = format!(r#"{{"client_id":"c","client_secret":"s","client_secret_expires_at":{written}}}"#);
            assert_eq!(end(&body), None, "{written}");
        }
    }

    #[test]
    fn a_refusal_says_what_the_provider_said() {
        let said = answered(400, r#"{"error":"invalid_redirect_uri","error_description":"not allowed"}"#);
        assert_eq!(said.unwrap_err(), NotGranted::Refused("invalid_redirect_uri: not allowed".into()));
        for (status, body) in [(403, "Forbidden"), (200, "<html>"), (201, r#"{"client_id":""}"#)] {
            let problem = answered(status, body).unwrap_err();
            assert!(matches!(&problem, NotGranted::Refused(cause) if cause.contains("client_id")), "{problem:?}");
        }
    }

    #[test]
    fn an_endpoint_that_is_unwell_has_refused_nothing() {
        for status in [429, 500, 503] {
            let problem = answered(status, r#"{"error":"invalid_client_metadata"}"#).unwrap_err();
            assert!(matches!(problem, NotGranted::Unwell(_)), "{status} {problem:?}");
        }
    }

    #[test]
    fn a_public_client_is_asked_for_wherever_it_may_be() {
        let offered = |methods: &[&str]| methods.iter().map(|method| (*method).to_owned()).collect::<Vec<_>>();
        assert_eq!(preferred(&[]), ClientAuthMethod::None);
        assert_eq!(preferred(&offered(&["client_secret_basic", "none"])), ClientAuthMethod::None);
        assert_eq!(
            preferred(&offered(&["client_secret_post", "client_secret_basic"])),
            ClientAuthMethod::ClientSecretBasic
        );
        assert_eq!(preferred(&offered(&["client_secret_post"])), ClientAuthMethod::ClientSecretPost);
    }
}
