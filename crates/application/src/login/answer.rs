//! What came back to the redirect URI, and what may be believed of it.

use everfresh_domain::login::LoginOutcome;
use everfresh_domain::{Failure, Secret};

use super::{CallbackQuery, Flow};
use crate::ports::INVALID_DPOP_PROOF;

/// The code of an answer that comes from the right issuer (RFC 9207 section 2.4) and says yes.
pub(super) fn checked_code(flow: &Flow, answer: CallbackQuery) -> Result<Secret, LoginOutcome> {
    let failed = |message: &str| LoginOutcome::Failed { message: message.to_owned() };
    match &answer.iss {
        Some(iss) if *iss != flow.binding.client.issuer => {
            return Err(failed("the answer came from another issuer than was asked; nothing of it was used"));
        }
        None if flow.answers_carry_iss => {
            return Err(failed("the answer does not name its issuer, as this issuer promises; it was not used"));
        }
        Some(_) | None => {}
    }
    if let Some(code) = answer.error {
        return Err(LoginOutcome::Denied { code: printable(&code) });
    }
    answer.code.ok_or_else(|| failed("the answer carries no code"))
}

pub(super) fn describe(failure: &Failure) -> String {
    match &failure.oauth_error {
        // It is not the code that was refused, and the message says what may be the matter.
        Some(code) if code == INVALID_DPOP_PROOF => failure.message.clone(),
        Some(code) => format!("the provider refused the code: {}", printable(code)),
        None => format!("the code could not be exchanged: {}", failure.message),
    }
}

/// Foreign text as it may be shown: short, and printable ASCII only.
fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(64).collect()
}
