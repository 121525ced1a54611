//! What an answer of a token endpoint says about the refresh token that was sent.
//!
//! A pure function of status, headers and body. Only an error code of RFC 6749, or a provider's
//! exact alias of one, ends a login; everything else is tried again. Nothing of the body is in a
//! message but the code.

use std::time::Duration;

use everfresh_application::ports::{INVALID_DPOP_PROOF, USE_DPOP_NONCE};
use everfresh_domain::profile::means_refused;
use everfresh_domain::{Failure, FailureClass, Profile, Timestamp, TokenResponse};
use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::{Map, Value};

use super::parse::{members, text, tokens};
use super::wire::{Answer, Body};

/// The longest error code that is shown.
const CODE_MAX: usize = 64;

/// Words for `invalid_client` of providers that have their own (GitHub, Slack).
const UNKNOWN_CLIENT: [&str; 4] =
    ["invalid_client", "incorrect_client_credentials", "invalid_client_id", "bad_client_secret"];

/// Codes that ask for patience, whatever the status.
const TRANSIENT: [&str; 3] = ["temporarily_unavailable", "server_error", "slow_down"];

/// What providers say more narrowly than by a code of RFC 6749, and what it means (Microsoft Entra,
/// Google).
const SUBCODES: [(&str, &str); 9] = [
    ("AADSTS50076", "the organisation asks for a second factor"),
    ("AADSTS50078", "the second factor has expired"),
    ("AADSTS50173", "the password was changed, or the sessions were revoked"),
    ("AADSTS53003", "the organisation's access policy forbids it"),
    ("AADSTS70043", "the organisation's sign-in frequency is over"),
    ("AADSTS700082", "the refresh token was not used for too long"),
    ("AADSTS700084", "the login of a single-page application lasts 24 h"),
    ("invalid_rapt", "the organisation asks for a new sign-in"),
    ("token_expired", "the refresh token has expired"),
];

/// Tokens, or what the refusal means. `now` is for a `Retry-After` that is a date in an answer without one; `profile` knows
/// the provider's own words.
pub(super) fn classify(answer: &Answer, now: Timestamp, profile: Option<&Profile>) -> Result<TokenResponse, Failure> {
    let retry_after = retry_after(&answer.headers, now);
    let status = answer.status;
    let members = match &answer.body {
        Body::Whole(body) => members(body),
        Body::TooLong | Body::Broken => None,
    };
    let error = members.as_ref().and_then(|members| error_in(members, profile));
    if let (true, None, Some(members)) = (status.is_success(), &error, &members)
        && let Some(tokens) = tokens(members, date(&answer.headers, DATE))
    {
        return Ok(tokens);
    }
    let (class, message) = match &error {
        Some(error) => by_code(error, status, retry_after),
        None => by_status(answer, members.is_some(), retry_after),
    };
    let subcode = error.as_ref().and(members.as_ref()).and_then(subcode_in);
    let message = subcode.iter().fold(message, |message, subcode| format!("{message} ({subcode})"));
    let oauth_error = error.map(|error| error.code);
    let endpoint_gone = oauth_error.is_none() && matches!(status.as_u16(), 404 | 405 | 410);
    Err(Failure {
        class,
        oauth_error,
        subcode,
        http_status: Some(status.as_u16()),
        retry_after,
        endpoint_gone,
        message,
    })
}

/// What an answer means that brings no tokens and should have brought something else.
pub(super) fn refusal(answer: &Answer, now: Timestamp) -> Failure {
    let surprising = |_| Failure::without_answer(FailureClass::Provider, "the provider answered with tokens");
    classify(answer, now, None).map_or_else(|failure| failure, surprising)
}

/// An error as the provider told it.
struct ProviderError {
    /// The code, printable and short.
    code: String,
    /// What it means where code and words around it are a provider's own.
    class: Option<FailureClass>,
}

fn error_in(members: &Map<String, Value>, profile: Option<&Profile>) -> Option<ProviderError> {
    let nested = members.get("error").and_then(Value::as_object);
    let code = text(members, "error")
        .or_else(|| nested.and_then(|nested| text(nested, "code").or_else(|| text(nested, "type"))))
        .or_else(|| text(members, "error_code"))
        .or_else(|| text(members, "code").filter(|_| !members.contains_key("access_token")))?;
    let description = text(members, "error_description").unwrap_or_default();
    let aadsts = |number: &str| description.contains(&format!("AADSTS{number}"));
    if aadsts("9010010") {
        return Some(ProviderError { code: "invalid_target".into(), class: Some(FailureClass::Shape) });
    }
    if aadsts("90009") {
        return Some(ProviderError { code: "invalid_scope".into(), class: Some(FailureClass::Shape) });
    }
    let dead = means_refused(code, description, profile);
    Some(ProviderError { code: printable(code), class: dead.then_some(FailureClass::Refused) })
}

/// `suberror` (Entra), `error_subtype` (Google) or the number in Entra's description, with what it
/// means where that is known.
fn subcode_in(members: &Map<String, Value>) -> Option<String> {
    let description = text(members, "error_description").unwrap_or_default();
    let number = description.find("AADSTS").map(|at| {
        let digits = description[at + 6..].bytes().take_while(u8::is_ascii_digit).count();
        &description[at..at + 6 + digits]
    });
    let told = [number, text(members, "error_subtype"), text(members, "suberror")].into_iter().flatten();
    let known = |told: &&str| SUBCODES.iter().find(|(subcode, _)| subcode == told);
    match told.clone().find_map(|told| known(&told)) {
        Some((subcode, meaning)) => Some(format!("{subcode}: {meaning}")),
        None => told.map(printable).find(|told| !told.is_empty()),
    }
}

fn by_code(error: &ProviderError, status: StatusCode, retry_after: Option<Duration>) -> (FailureClass, String) {
    let code = error.code.as_str();
    let message = format!("the provider answered {} with the error {code}", status.as_u16());
    if error.class == Some(FailureClass::Refused) {
        return (FailureClass::Refused, message);
    }
    if is_transient(status) || TRANSIENT.contains(&code) {
        let pause = retry_after.is_some() || status == StatusCode::TOO_MANY_REQUESTS;
        return (if pause { FailureClass::RateLimited } else { FailureClass::Provider }, message);
    }
    let class = error.class.unwrap_or_else(|| match code {
        code if UNKNOWN_CLIENT.contains(&code) => FailureClass::ClientRejected,
        "invalid_target" | "invalid_scope" => FailureClass::Shape,
        INVALID_DPOP_PROOF | USE_DPOP_NONCE => FailureClass::Provider,
        "invalid_request" | "unauthorized_client" => FailureClass::Suspect,
        // A code that nobody knows: asked again, and hourly once it has been said often enough.
        _ if status.is_success() || is_refusal(status) || status == StatusCode::BAD_REQUEST => FailureClass::Suspect,
        _ => FailureClass::Provider,
    });
    if code == INVALID_DPOP_PROOF {
        return (
            class,
            format!("{message}: it does not accept the proof of possession; is this machine's clock right?"),
        );
    }
    (class, message)
}

fn by_status(answer: &Answer, structured: bool, retry_after: Option<Duration>) -> (FailureClass, String) {
    let status = answer.status;
    let number = status.as_u16();
    if status == StatusCode::TOO_MANY_REQUESTS || (status == StatusCode::SERVICE_UNAVAILABLE && retry_after.is_some()) {
        return (FailureClass::RateLimited, format!("the provider answered {number} and asks for a pause"));
    }
    if structured && is_refusal(status) {
        return (FailureClass::Suspect, format!("the provider answered {number} without an OAuth error code"));
    }
    let message = match &answer.body {
        Body::Broken if status.is_success() => {
            return (FailureClass::AnswerLost, "the connection broke in the middle of the answer".to_owned());
        }
        _ if status.is_redirection() => {
            format!("the provider answered with a redirect ({number}); proxy or captive portal?")
        }
        Body::TooLong => format!("the provider answered {number} with more than an answer may have"),
        Body::Broken => format!("the provider answered {number} and broke off"),
        Body::Whole(_) if structured && status.is_success() => {
            format!("the provider answered {number} without an access token")
        }
        Body::Whole(body) if body.is_empty() => format!("the provider answered {number} with an empty body"),
        Body::Whole(_) if structured => format!("the provider answered {number} without an OAuth error code"),
        Body::Whole(_) if is_transient(status) => format!("the provider answered {number}"),
        Body::Whole(_) => {
            format!("the provider answered {number} with something that is no JSON; proxy or captive portal?")
        }
    };
    (FailureClass::Provider, message)
}

fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429) || status.is_server_error()
}

fn is_refusal(status: StatusCode) -> bool {
    status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN
}

/// `Retry-After` in seconds or as a date (RFC 9110 section 10.2.3). A date is the sender's, whose clock
/// may be another: it counts from the moment that the sender gives its answer, or else from `now`.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(date(headers, RETRY_AFTER)?.since(date(headers, DATE).unwrap_or(now))),
    }
}

/// A date in a header (RFC 9110 section 5.6.7).
pub(super) fn date(headers: &HeaderMap, name: HeaderName) -> Option<Timestamp> {
    let text = headers.get(name)?.to_str().ok()?;
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Timestamp::from_millis(at.as_millisecond()))
}

/// Foreign text as it may be shown: short, and printable ASCII only.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(CODE_MAX).collect()
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
