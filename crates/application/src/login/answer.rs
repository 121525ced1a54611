//! What came back to the redirect URI, what may be believed of it, and the words for what went wrong.

use everfresh_domain::login::LoginOutcome;
use everfresh_domain::{Failure, Secret};

use super::{Browser, CallbackQuery, Flow};
use crate::ports::INVALID_DPOP_PROOF;

/// The longest foreign text that is shown.
const SHOWN_MAX: usize = 200;

/// The code of an answer that comes from the right issuer (RFC 9207 section 2.4) and says yes.
pub(super) fn checked_code(flow: &Flow, browser: &Browser, answer: CallbackQuery) -> Result<Secret, LoginOutcome> {
    let failed = |message: &str| LoginOutcome::Failed { message: message.to_owned() };
    match &answer.iss {
        Some(iss) if *iss != flow.binding.client.issuer => {
            return Err(failed("the answer came from another issuer than was asked; nothing of it was used"));
        }
        None if browser.answers_carry_iss => {
            return Err(failed("the answer does not name its issuer, as this issuer promises; it was not used"));
        }
        Some(_) | None => {}
    }
    if let Some(code) = answer.error {
        return Err(refused(flow, &printable(&code), answer.error_description.as_deref()));
    }
    answer.code.ok_or_else(|| failed("the answer carries no code"))
}

/// What an error of RFC 6749 section 4.1.2.1, RFC 8707 or OpenID Connect means for the person.
fn refused(flow: &Flow, code: &str, description: Option<&str>) -> LoginOutcome {
    let scopes = &flow.binding.requested_scopes;
    let message = match code {
        "access_denied"
        | "consent_required"
        | "interaction_required"
        | "login_required"
        | "account_selection_required" => return LoginOutcome::Denied { code: code.to_owned() },
        "invalid_scope" => {
            let offline = scopes.iter().any(|scope| scope == "offline_access");
            let fix = if offline { "set oauth.scopes, or offline_access = \"never\"" } else { "set oauth.scopes" };
            format!("the provider does not know a scope that was asked for ({}); {fix}", scopes.join(" "))
        }
        "invalid_target" => "the provider does not know this server as a resource; set oauth.resource".to_owned(),
        "unauthorized_client" | "invalid_client" | "invalid_redirect_uri" => {
            format!(
                "the provider does not accept this client ({code}); try with --new-client, or check oauth.client_id"
            )
        }
        "server_error" | "temporarily_unavailable" => format!("the provider is not well ({code}); try again later"),
        _ => format!("the provider refused the login: {code}"),
    };
    // The answer is bound to this login, so these are its provider's words.
    let description = description.map(printable).filter(|text| !text.is_empty());
    LoginOutcome::Failed {
        message: match description {
            Some(description) => format!("{message}. It says: {description}"),
            None => message,
        },
    }
}

/// Why a token endpoint gave no tokens for a code.
pub(super) fn describe(failure: &Failure) -> String {
    match &failure.oauth_error {
        // It is not the code that was refused, and the message says what may be the matter.
        Some(code) if code == INVALID_DPOP_PROOF => failure.message.clone(),
        Some(code) => format!("the provider refused the code: {}", printable(code)),
        None => format!("the code could not be exchanged: {}", failure.message),
    }
}

/// The same where the client that it is about was forgotten.
pub(super) fn forgotten(failure: &Failure) -> String {
    let code = failure.oauth_error.as_deref().map_or_else(|| failure.message.clone(), printable);
    format!("the provider does not know this client any more ({code}); the next login registers a new one")
}

/// Foreign text as it may be shown: short, and printable ASCII only.
fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(SHOWN_MAX).collect()
}
