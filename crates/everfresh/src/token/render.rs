//! A token in the forms of other programs.

use everfresh_domain::Timestamp;
use serde_json::{Value, json};

use super::TokenOutput;
use crate::exit::{Exit, Failure};
use crate::output;

/// What kubectl speaks where it does not say.
const EXEC_V1: &str = "client.authentication.k8s.io/v1";

/// The one before, which has the same form.
const EXEC_V1BETA1: &str = "client.authentication.k8s.io/v1beta1";

/// The version of ExecCredential that kubectl wants, by what it says in `KUBERNETES_EXEC_INFO`.
pub(super) fn exec_version(info: Option<&str>) -> Result<&'static str, String> {
    let Some(info) = info.filter(|info| !info.is_empty()) else { return Ok(EXEC_V1) };
    let told: Value =
        serde_json::from_str(info).map_err(|error| format!("KUBERNETES_EXEC_INFO is no JSON: {error}"))?;
    match told["apiVersion"].as_str() {
        Some(EXEC_V1) => Ok(EXEC_V1),
        Some(EXEC_V1BETA1) => Ok(EXEC_V1BETA1),
        other => Err(format!(
            "KUBERNETES_EXEC_INFO wants the apiVersion {}; set {EXEC_V1} in the kubeconfig's exec section",
            other.unwrap_or("of nothing")
        )),
    }
}

/// When a token ends, to the second.
pub(super) fn end_of(answer: &Value) -> Option<Timestamp> {
    answer["expires_at"].as_str().and_then(|text| text.parse().ok())
}

/// The token that `answer` holds, in this form.
pub(super) fn render(
    form: TokenOutput,
    answer: &Value,
    version: Result<&'static str, String>,
) -> Result<String, Failure> {
    let token = answer["access_token"].as_str().unwrap_or_default();
    let header = || format!("{} {token}", output::text(&answer["token_type"]));
    Ok(match form {
        TokenOutput::Raw => token.to_owned(),
        TokenOutput::Json => serde_json::to_string_pretty(answer).unwrap_or_default(),
        TokenOutput::Header => format!("Authorization: {}", header()),
        TokenOutput::HeadersJson => json!({ "Authorization": header() }).to_string(),
        TokenOutput::ExecCredential => {
            let version = version.map_err(|text| Failure::new(Exit::Usage, text))?;
            let mut status = json!({ "token": token });
            if let Some(end) = end_of(answer) {
                status["expirationTimestamp"] = end.to_string().into();
            }
            json!({ "apiVersion": version, "kind": "ExecCredential", "status": status }).to_string()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(expires_at: Option<&str>) -> Value {
        json!({ "access_token": "t-1", "token_type": "Bearer", "expires_at": expires_at, "scopes": [] })
    }

    fn check(form: TokenOutput, expires_at: Option<&str>, expected: &str) {
        assert_eq!(render(form, &answer(expires_at), exec_version(None)).unwrap(), expected);
    }

    #[test]
    fn each_form_is_what_its_reader_expects() {
        let end = Some("2026-11-24T14:00:00.250Z");
        check(TokenOutput::Raw, end, "t-1");
        check(TokenOutput::Header, end, "Authorization: Bearer t-1");
        check(TokenOutput::HeadersJson, end, r#"{"Authorization":"Bearer t-1"}"#);
        check(
            TokenOutput::ExecCredential,
            end,
            r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"expirationTimestamp":"2026-11-24T14:00:00Z","token":"t-1"}}"#,
        );
        check(
            TokenOutput::ExecCredential,
            None,
            r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"t-1"}}"#,
        );
    }

    #[test]
    fn kubectl_is_answered_in_its_version_or_told_why_not() {
        let told = |info: &str| exec_version(Some(info));
        assert_eq!(told(""), Ok(EXEC_V1));
        for version in [EXEC_V1, EXEC_V1BETA1] {
            assert_eq!(told(&format!(r#"{{"apiVersion":"{version}","kind":"ExecCredential"}}"#)), Ok(version));
        }
        assert!(told(r#"{"apiVersion":"client.authentication.k8s.io/v1alpha1"}"#).unwrap_err().contains("v1alpha1"));
        assert!(told("{}").is_err() && told("nonsense").unwrap_err().contains("no JSON"));
        let wrong = render(TokenOutput::ExecCredential, &answer(None), told("{}")).unwrap_err();
        assert_eq!(wrong.exit, Exit::Usage);
        assert!(render(TokenOutput::Raw, &answer(None), told("{}")).is_ok(), "nobody else asks kubectl");
    }
}
