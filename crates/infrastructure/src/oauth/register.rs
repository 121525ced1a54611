//! Dynamic client registration (RFC 7591).

use std::time::Duration;

use everfresh_application::ServerSettings;
use everfresh_application::ports::{Discovered, RegistrationError};
use everfresh_domain::grant::{ClientAuthMethod, ClientRegistration};
use everfresh_domain::{Secret, Timestamp};
use http::header::{ACCEPT, CONTENT_TYPE};
use serde::{Deserialize, Serialize};

use super::classify::printable;
use super::parse::{members, text};
use super::wire::{Answer, Body};
use super::{HttpOAuth, PATIENCE};

/// What is asked for (RFC 7591 section 2; `application_type` of OpenID Connect registration).
#[derive(Serialize)]
struct Wanted<'a> {
    client_name: &'static str,
    redirect_uris: &'a [String],
    grant_types: [&'static str; 2],
    response_types: [&'static str; 1],
    token_endpoint_auth_method: ClientAuthMethod,
    application_type: &'static str,
}

/// What is granted (RFC 7591 section 3.2.1).
#[derive(Deserialize)]
struct Granted {
    client_id: String,
    client_secret: Option<String>,
    client_secret_expires_at: Option<u64>,
    token_endpoint_auth_method: Option<String>,
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
        grant_types: ["authorization_code", "refresh_token"],
        response_types: ["code"],
        token_endpoint_auth_method: preferred(&discovered.token_endpoint_auth_methods),
        application_type: "native",
    };
    let body = serde_json::to_vec(&wanted).map_err(|error| refused(error.to_string()))?;
    let request =
        http::Request::post(endpoint).header(CONTENT_TYPE, "application/json").header(ACCEPT, "application/json");
    let request = request.body(body).map_err(|error| refused(error.to_string()))?;
    let late = || unreachable(format!("no answer within {} s", PATIENCE.as_secs()));
    let answer = tokio::time::timeout(PATIENCE, oauth.send(server, request)).await.map_err(|_| late())?;
    let answer = answer.map_err(|failure| unreachable(failure.message))?;
    let granted = granted(&answer).map_err(refused)?;
    Ok(registration(granted, wanted.token_endpoint_auth_method, issuer, redirect_uris))
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

fn granted(answer: &Answer) -> Result<Granted, String> {
    let status = answer.status.as_u16();
    let Body::Whole(body) = &answer.body else { return Err(format!("it answered {status} with no usable body")) };
    if answer.status.is_success() {
        // serde's own message may quote what it read.
        return serde_json::from_slice(body).map_err(|_| format!("it answered {status} without a client_id"));
    }
    let told = members(body).unwrap_or_default();
    let code = text(&told, "error").map(printable);
    let description = text(&told, "error_description").map(printable);
    Err(match (code, description) {
        (Some(code), Some(description)) => format!("{code}: {description}"),
        (Some(code), None) => code,
        (None, _) => format!("it answered {status}; set oauth.client_id to a client registered by hand"),
    })
}

fn registration(
    granted: Granted,
    wanted: ClientAuthMethod,
    issuer: &str,
    redirect_uris: &[String],
) -> ClientRegistration {
    let client_secret = granted.client_secret.filter(|secret| !secret.is_empty()).map(Secret::new);
    let auth_method = match (granted.token_endpoint_auth_method.as_deref(), &client_secret) {
        (_, None) | (Some("none"), _) => ClientAuthMethod::None,
        (Some("client_secret_post"), Some(_)) => ClientAuthMethod::ClientSecretPost,
        (Some("client_secret_basic"), Some(_)) => ClientAuthMethod::ClientSecretBasic,
        // A secret without a word on its use: as asked, and Basic where none was asked for.
        (_, Some(_)) if wanted == ClientAuthMethod::ClientSecretPost => ClientAuthMethod::ClientSecretPost,
        (_, Some(_)) => ClientAuthMethod::ClientSecretBasic,
    };
    let end = granted.client_secret_expires_at.filter(|end| *end > 0 && client_secret.is_some());
    ClientRegistration {
        issuer: issuer.to_owned(),
        client_id: granted.client_id,
        client_secret,
        auth_method,
        secret_expires_at: end.map(|end| Timestamp::EPOCH.after(Duration::from_secs(end))),
        redirect_uris: redirect_uris.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn answered(status: u16, body: &str) -> Result<ClientRegistration, String> {
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
        let end = |body| answered(200, body).unwrap().secret_expires_at;
        assert_eq!(end(r#"{"client_id":"c","client_secret":"s","client_secret_expires_at":0}"#), None);
        let told = end(r#"{"client_id":"c","client_secret":"s","client_secret_expires_at":1795000000}"#);
        assert_eq!(told, Some(Timestamp::from_millis(1_795_000_000_000)));
    }

    #[test]
    fn a_refusal_says_what_the_provider_said() {
        let said = answered(400, r#"{"error":"invalid_redirect_uri","error_description":"not allowed"}"#);
        assert_eq!(said.unwrap_err(), "invalid_redirect_uri: not allowed");
        assert!(answered(403, "Forbidden").unwrap_err().contains("oauth.client_id"));
        assert!(answered(200, "<html>").unwrap_err().contains("client_id"));
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
