//! The classifier's table: recorded answers and what each says about the refresh token.

use bytes::Bytes;
use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);

fn answer(status: u16, headers: &[(HeaderName, &'static str)], body: &[u8]) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect(),
        body: Body::Whole(Bytes::copy_from_slice(body)),
    }
}

fn class(status: u16, body: &str) -> Option<FailureClass> {
    classify(&answer(status, &[], body.as_bytes()), NOW, None).err().map(|failure| failure.class)
}

#[test]
fn every_recorded_answer_has_its_class() {
    use FailureClass::{ClientRejected, Provider, RateLimited, Refused, Shape, Suspect};

    let corpus: [(u16, &str, Option<FailureClass>); 47] = [
        (200, r#"{"error":"incorrect_client_credentials"}"#, Some(ClientRejected)),
        (200, r#"{"ok":false,"error":"invalid_client_id"}"#, Some(ClientRejected)),
        (200, r#"{"ok":false,"error":"fatal_error"}"#, Some(Suspect)),
        (200, r#"{"access_token":"a","token_type":"Bearer","expires_in":3600}"#, None),
        (201, r#"{"access_token":"a","expires_in":3600}"#, None),
        (200, r#"{"access_token":"a","error":null}"#, None),
        (200, r#"{"access_token":"a","error":""}"#, None),
        (200, r#"{"ok":true,"access_token":"xoxe.a"}"#, None),
        (200, "access_token=a&expires_in=28800", None),
        (200, "\u{feff}{\"access_token\":\"a\"}", None),
        (400, r#"{"error":"invalid_grant"}"#, Some(Refused)),
        (401, r#"{"error":"invalid_grant","error_description":"Grant not found"}"#, Some(Refused)),
        (403, r#"{"error":"invalid_grant"}"#, Some(Refused)),
        (500, r#"{"error":"invalid_grant"}"#, Some(Refused)),
        (200, r#"{"error":"bad_refresh_token","error_description":"incorrect or expired"}"#, Some(Refused)),
        (200, "error=bad_refresh_token&error_description=The+refresh+token", Some(Refused)),
        (200, r#"{"ok":false,"error":"invalid_refresh_token"}"#, Some(Refused)),
        (400, r#"{"code":400,"error_code":"refresh_token_already_used","msg":"Invalid Refresh Token"}"#, Some(Refused)),
        (400, r#"{"error_code":"refresh_token_not_found"}"#, Some(Refused)),
        (403, r#"{"error":"unauthorized_client","error_description":"refresh_token is invalid"}"#, Some(Refused)),
        (400, r#"{"error":"unauthorized_client","error_description":"something else"}"#, Some(Suspect)),
        (400, r#"{"error":"invalid_request"}"#, Some(Suspect)),
        (401, r#"{"message":"no"}"#, Some(Suspect)),
        (403, r#"{"message":"no"}"#, Some(Suspect)),
        (400, r#"{"error":"access_denied"}"#, Some(Suspect)),
        (400, r#"{"error":{"message":"Error validating","type":"OAuthException","code":190}}"#, Some(Suspect)),
        (400, r#"{"error":"invalid_client"}"#, Some(ClientRejected)),
        (401, r#"{"error":"invalid_client"}"#, Some(ClientRejected)),
        (500, r#"{"error":"invalid_client"}"#, Some(Provider)),
        (422, r#"{"message":"Unrecognized client_id"}"#, Some(Provider)),
        (400, r#"{"error":"invalid_target"}"#, Some(Shape)),
        (400, r#"{"error":"invalid_scope"}"#, Some(Shape)),
        (400, r#"{"error":"invalid_request","error_description":"AADSTS9010010: The resource"}"#, Some(Shape)),
        (400, r#"{"error":"invalid_request","error_description":"AADSTS90009: Application"}"#, Some(Shape)),
        (400, r#"{"error":"temporarily_unavailable"}"#, Some(Provider)),
        (503, r#"{"error":"temporarily_unavailable"}"#, Some(Provider)),
        (500, r#"{"error":"server_error"}"#, Some(Provider)),
        (429, "slow down", Some(RateLimited)),
        (429, r#"{"error":"rate_limited"}"#, Some(RateLimited)),
        (503, "<html>Bad gateway</html>", Some(Provider)),
        (403, "<html>Attention Required! Cloudflare</html>", Some(Provider)),
        (403, "Forbidden", Some(Provider)),
        (302, "", Some(Provider)),
        (200, "<html>Please log in to the hotel network</html>", Some(Provider)),
        (200, "{}", Some(Provider)),
        (200, "", Some(Provider)),
        (400, r#"{"error":"invalid_gran"#, Some(Provider)),
    ];
    for (status, body, expected) in corpus {
        assert_eq!(class(status, body), expected, "{status} {body}");
    }
}

#[test]
fn what_a_provider_says_more_narrowly_is_shown_with_its_meaning() {
    let rows = [
        (
            r#"{"error":"invalid_grant","error_subtype":"invalid_rapt"}"#,
            Some("invalid_rapt: the organisation asks for a new sign-in"),
        ),
        (
            r#"{"error":"invalid_grant","suberror":"bad_token","error_description":"AADSTS70043: The refresh token"}"#,
            Some("AADSTS70043: the organisation's sign-in frequency is over"),
        ),
        (r#"{"error":"invalid_grant","suberror":"consent_required"}"#, Some("consent_required")),
        (r#"{"error":"invalid_grant","error_description":"AADSTS65001: user"}"#, Some("AADSTS65001")),
        (r#"{"error":"invalid_grant","error_description":"who knows"}"#, None),
        (r#"{"error":"invalid_grant","suberror":""}"#, None),
    ];
    for (body, told) in rows {
        let failure = classify(&answer(400, &[], body.as_bytes()), NOW, None).unwrap_err();
        assert_eq!(
            (failure.subcode.as_deref(), failure.oauth_error.as_deref()),
            (told, Some("invalid_grant")),
            "{body}"
        );
        assert!(told.is_none_or(|told| failure.message.ends_with(&format!("({told})"))), "{}", failure.message);
    }
}

#[test]
fn an_endpoint_that_is_not_there_is_told_from_one_that_refuses() {
    let gone =
        |status, body: &str| classify(&answer(status, &[], body.as_bytes()), NOW, None).unwrap_err().endpoint_gone;
    for status in [404, 405, 410] {
        assert!(gone(status, "") && gone(status, "<html>Not found</html>") && gone(status, r#"{"message":"no"}"#));
        assert!(!gone(status, r#"{"error":"invalid_grant"}"#), "it answers as a token endpoint does");
    }
    assert!([400, 401, 403, 429, 500, 503].iter().all(|status| !gone(*status, "")));
}

#[test]
fn a_pause_is_read_from_seconds_and_from_a_date() {
    let failure = |value| classify(&answer(503, &[(RETRY_AFTER, value)], b""), NOW, None).unwrap_err();
    assert_eq!(failure("120").retry_after, Some(Duration::from_secs(120)));
    assert_eq!(failure("120").class, FailureClass::RateLimited);
    assert_eq!(failure("Wed, 18 Nov 2026 11:08:40 GMT").retry_after, Some(Duration::from_secs(120)));
    assert_eq!(failure("Wed, 18 Nov 2020 11:08:40 GMT").retry_after, Some(Duration::ZERO));
    // The sender's clock is an hour ahead of this machine's.
    let headers = [(RETRY_AFTER, "Wed, 18 Nov 2026 12:08:40 GMT"), (DATE, "Wed, 18 Nov 2026 12:06:40 GMT")];
    let ahead = classify(&answer(503, &headers, b""), NOW, None).unwrap_err();
    assert_eq!(ahead.retry_after, Some(Duration::from_secs(120)));
    let nonsense = failure("soon");
    assert_eq!((nonsense.retry_after, nonsense.class), (None, FailureClass::Provider));
}

#[test]
fn a_body_that_breaks_off_may_have_cost_the_token_and_a_long_one_is_not_read() {
    let broken = Answer { body: Body::Broken, ..answer(200, &[], b"") };
    assert_eq!(classify(&broken, NOW, None).unwrap_err().class, FailureClass::AnswerLost);
    let broken_error = Answer { body: Body::Broken, ..answer(502, &[], b"") };
    assert_eq!(classify(&broken_error, NOW, None).unwrap_err().class, FailureClass::Provider);
    let long = Answer { body: Body::TooLong, ..answer(200, &[], b"") };
    assert_eq!(classify(&long, NOW, None).unwrap_err().class, FailureClass::Provider);
}

#[test]
fn the_clock_of_the_provider_is_read() {
    let headers = [(DATE, "Wed, 18 Nov 2026 11:06:40 GMT")];
    let response = classify(&answer(200, &headers, br#"{"access_token":"a"}"#), NOW, None).unwrap();
    assert_eq!(response.date, Some(NOW));
}

#[test]
fn nothing_of_a_body_is_shown_but_its_code_cut_and_cleaned() {
    let body = format!(r#"{{"error":"{}\u001b[31m","error_description":"canary"}}"#, "x".repeat(200));
    let failure = classify(&answer(400, &[], body.as_bytes()), NOW, None).unwrap_err();
    assert_eq!(failure.oauth_error.as_deref(), Some("x".repeat(CODE_MAX).as_str()));
    for body in ["<html>canary</html>", r#"{"message":"canary"}"#, r#"{"error":"e","refresh_token":"canary"}"#] {
        let failure = classify(&answer(400, &[], body.as_bytes()), NOW, None).unwrap_err();
        assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
    }
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(status in 200_u16..600, body in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(classify(&answer(status, &[], &body), NOW, None));
    }

    #[test]
    fn only_a_code_ends_a_login(status in 200_u16..600, body in "[a-z<>{}\" ]{0,60}") {
        let class = class(status, &body);
        prop_assert!(!matches!(class, Some(FailureClass::Refused | FailureClass::ClientRejected)), "{class:?}");
    }
}
