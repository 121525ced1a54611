//! A device authorization endpoint's answer (RFC 8628 section 3.2), read as tolerantly as a token
//! endpoint's.

use std::time::Duration;

use everfresh_application::ports::DeviceAuthorization;
use everfresh_domain::{Failure, FailureClass, Secret, Timestamp};
use serde_json::{Map, Value};
use url::Url;

use super::classify::{printable, refusal};
use super::parse::{members, number, text};
use super::wire::{Answer, Body};

/// How often is asked where the provider does not say (RFC 8628 section 3.2).
const INTERVAL: Duration = Duration::from_secs(5);

/// Longer intervals are somebody's mistake: the code would end before the second question.
const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// How long a code is good where the provider does not say, which it must.
const LIFETIME: Duration = Duration::from_secs(600);

/// A device code, or why there is none. `now` is for a `Retry-After` that is a date.
pub(super) fn authorization(answer: &Answer, now: Timestamp) -> Result<DeviceAuthorization, Failure> {
    let told = match &answer.body {
        Body::Whole(body) if answer.status.is_success() => members(body),
        Body::Whole(_) | Body::TooLong | Body::Broken => None,
    };
    let Some(told) = told.filter(|told| !told.contains_key("error")) else { return Err(refusal(answer, now)) };
    let incomplete = || {
        let status = answer.status.as_u16();
        let message = format!("the provider answered {status} without a device code that can be used");
        Failure { http_status: Some(status), ..Failure::without_answer(FailureClass::Provider, message) }
    };
    read(&told).ok_or_else(incomplete)
}

fn read(told: &Map<String, Value>) -> Option<DeviceAuthorization> {
    let duration = |name: &str| told.get(name).and_then(number).filter(|time| !time.is_zero());
    Some(DeviceAuthorization {
        device_code: Secret::new(text(told, "device_code")?),
        user_code: printable(text(told, "user_code")?),
        // Google's name for it is from before the RFC.
        verification_uri: page(told, "verification_uri").or_else(|| page(told, "verification_url"))?,
        verification_uri_complete: page(told, "verification_uri_complete"),
        expires_in: duration("expires_in").unwrap_or(LIFETIME),
        interval: duration("interval").unwrap_or(INTERVAL).min(INTERVAL_MAX),
    })
}

/// A page that a person may be sent to.
fn page(told: &Map<String, Value>, name: &str) -> Option<String> {
    let url = Url::parse(text(told, name)?).ok()?;
    (matches!(url.scheme(), "https" | "http") && url.has_host()).then(|| url.into())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn answered(status: u16, body: &str) -> Result<DeviceAuthorization, Failure> {
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Body::Whole(Bytes::copy_from_slice(body.as_bytes())),
        };
        authorization(&answer, Timestamp::EPOCH)
    }

    const GOOD: &str = r#"{"device_code":"d","user_code":"WDJB-MJHT","verification_uri":"https://as.example/device""#;

    #[test]
    fn a_whole_answer_is_read_and_what_is_left_out_has_its_default() {
        let whole = format!(
            r#"{GOOD},"verification_uri_complete":"https://as.example/device?c=W","expires_in":"1800","interval":7}}"#
        );
        let whole = answered(200, &whole).unwrap();
        assert_eq!(
            (whole.user_code.as_str(), whole.verification_uri.as_str()),
            ("WDJB-MJHT", "https://as.example/device")
        );
        assert_eq!(whole.verification_uri_complete.as_deref(), Some("https://as.example/device?c=W"));
        assert_eq!((whole.expires_in, whole.interval), (Duration::from_secs(1_800), Duration::from_secs(7)));
        let short = answered(200, &format!("{GOOD}}}")).unwrap();
        assert_eq!((short.verification_uri_complete, short.expires_in, short.interval), (None, LIFETIME, INTERVAL));
        for written in ["0", "null", "-3", "\"soon\""] {
            assert_eq!(answered(200, &format!("{GOOD},\"interval\":{written}}}")).unwrap().interval, INTERVAL);
        }
        assert_eq!(answered(200, &format!("{GOOD},\"interval\":86400}}")).unwrap().interval, INTERVAL_MAX);
    }

    #[test]
    fn the_name_from_before_the_rfc_is_known() {
        let google = r#"{"device_code":"d","user_code":"u","verification_url":"https://www.google.com/device"}"#;
        assert_eq!(answered(200, google).unwrap().verification_uri, "https://www.google.com/device");
    }

    #[test]
    fn an_answer_that_nobody_can_follow_is_none() {
        let bad_pages = ["javascript:alert(1)", "file:///etc/passwd", "device", ""];
        for page in bad_pages {
            let body = format!(r#"{{"device_code":"d","user_code":"u","verification_uri":"{page}"}}"#);
            assert_eq!(answered(200, &body).unwrap_err().class, FailureClass::Provider, "{page}");
        }
        for body in [r#"{"user_code":"u","verification_uri":"https://as.example"}"#, "{}", "<html>", ""] {
            assert_eq!(answered(200, body).unwrap_err().class, FailureClass::Provider, "{body}");
        }
        let complete = format!(r#"{GOOD},"verification_uri_complete":"javascript:alert(1)"}}"#);
        assert_eq!(answered(200, &complete).unwrap().verification_uri_complete, None);
    }

    #[test]
    fn a_refusal_keeps_its_code() {
        for (status, code) in [(401, "invalid_client"), (400, "unauthorized_client"), (200, "invalid_scope")] {
            let failure = answered(status, &format!(r#"{{"error":"{code}"}}"#)).unwrap_err();
            assert_eq!(failure.oauth_error.as_deref(), Some(code));
        }
    }
}
