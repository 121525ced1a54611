//! A token endpoint's answer as providers really write it: JSON or form, numbers as strings,
//! absent, null and empty members. Strict where it matters only: there is an access token.

use std::time::Duration;

use everfresh_domain::{Secret, Timestamp, TokenResponse};
use serde_json::{Map, Value};

/// Lifetimes beyond this are somebody's mistake, and say nothing.
const LIFETIME_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// The members of an answer, from JSON or from form encoding.
pub(super) fn members(body: &[u8]) -> Option<Map<String, Value>> {
    let text = std::str::from_utf8(body).ok()?.trim_start_matches('\u{feff}').trim();
    if text.starts_with('{') {
        return serde_json::from_str(text).ok();
    }
    let looks_like_form = text.contains('=') && !text.contains(['<', '{', '\n', ' ']);
    looks_like_form.then(|| {
        let pairs = url::form_urlencoded::parse(text.as_bytes());
        pairs.map(|(name, value)| (name.into_owned(), Value::String(value.into_owned()))).collect()
    })
}

/// The tokens in an answer; `None` without an access token.
pub(super) fn tokens(members: &Map<String, Value>, date: Option<Timestamp>) -> Option<TokenResponse> {
    let duration = |names: &[&str]| names.iter().find_map(|name| seconds(members.get(*name)?));
    Some(TokenResponse {
        access_token: Secret::new(text(members, "access_token")?),
        token_type: text(members, "token_type").unwrap_or("Bearer").to_owned(),
        expires_in: duration(&["expires_in"]),
        refresh_token: text(members, "refresh_token").map(Secret::new),
        refresh_token_expires_in: duration(&[
            "refresh_token_expires_in",
            "refresh_expires_in",
            "x_refresh_token_expires_in",
        ]),
        refresh_in: duration(&["refresh_in"]),
        scopes: members.get("scope").and_then(scopes),
        date,
    })
}

/// A member that is a text with something in it.
pub(super) fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// A number of seconds that may be a lifetime.
fn seconds(value: &Value) -> Option<Duration> {
    number(value).filter(|lifetime| *lifetime >= Duration::from_secs(1) && *lifetime <= LIFETIME_MAX)
}

/// Seconds that are not negative, as number or text.
pub(super) fn number(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

/// Scopes as a text (RFC 6749 section 3.3; some write commas) or as a list.
fn scopes(value: &Value) -> Option<Vec<String>> {
    let scopes: Vec<String> = match value {
        Value::String(text) => {
            text.split([' ', ',', '\t', '\n']).filter(|scope| !scope.is_empty()).map(str::to_owned).collect()
        }
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    };
    (!scopes.is_empty()).then_some(scopes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(body: &str) -> TokenResponse {
        tokens(&members(body.as_bytes()).unwrap(), None).unwrap()
    }

    #[test]
    fn a_lifetime_is_read_from_whatever_means_a_number_of_seconds() {
        let hour = Some(Duration::from_secs(3600));
        let cases = [
            ("3600", hour),
            ("\"3600\"", hour),
            ("3600.0", hour),
            ("\" 3600 \"", hour),
            ("null", None),
            ("0", None),
            ("-1", None),
            ("1e12", None),
            ("\"soon\"", None),
            ("[]", None),
            ("true", None),
            ("1e400", None),
            ("\"NaN\"", None),
            ("\"inf\"", None),
        ];
        for (expires_in, expected) in cases {
            let body = format!(r#"{{"access_token":"a","expires_in":{expires_in}}}"#);
            let Some(members) = members(body.as_bytes()) else {
                assert_eq!(expires_in, "1e400", "only a number beyond all numbers is no JSON");
                continue;
            };
            assert_eq!(tokens(&members, None).unwrap().expires_in, expected, "{expires_in}");
        }
        assert_eq!(parsed(r#"{"access_token":"a"}"#).expires_in, None);
    }

    #[test]
    fn an_absent_null_or_empty_refresh_token_or_scope_is_none() {
        for member in ["", r#","refresh_token":null,"scope":null"#, r#","refresh_token":"","scope":"""#] {
            let response = parsed(&format!(r#"{{"access_token":"a"{member}}}"#));
            assert!(response.refresh_token.is_none() && response.scopes.is_none(), "{member}");
        }
    }

    #[test]
    fn the_lifetime_of_a_refresh_token_has_several_names_and_zero_means_none() {
        for name in ["refresh_token_expires_in", "refresh_expires_in", "x_refresh_token_expires_in"] {
            let response = parsed(&format!(r#"{{"access_token":"a","{name}":"1800"}}"#));
            assert_eq!(response.refresh_token_expires_in, Some(Duration::from_secs(1800)));
            assert_eq!(parsed(&format!(r#"{{"access_token":"a","{name}":0}}"#)).refresh_token_expires_in, None);
        }
    }

    #[test]
    fn scopes_come_as_text_with_spaces_or_commas_or_as_a_list() {
        for scope in [r#""a b""#, r#""a,b""#, r#"["a","b"]"#] {
            let response = parsed(&format!(r#"{{"access_token":"a","scope":{scope}}}"#));
            assert_eq!(response.scopes.unwrap(), ["a", "b"], "{scope}");
        }
    }

    #[test]
    fn form_encoding_is_read_as_well() {
        let response = parsed("access_token=a%20b&expires_in=3600&refresh_token=r&scope=x+y&token_type=bearer");
        assert_eq!(response.access_token.expose(), "a b");
        assert_eq!(response.expires_in, Some(Duration::from_secs(3600)));
        assert_eq!(response.scopes.unwrap(), ["x", "y"]);
    }

    #[test]
    fn without_an_access_token_there_are_no_tokens() {
        for body in ["{}", r#"{"access_token":""}"#, r#"{"access_token":null}"#, r#"{"access_token":7}"#] {
            assert!(tokens(&members(body.as_bytes()).unwrap(), None).is_none(), "{body}");
        }
        for body in ["", "<html>a=b</html>", "Forbidden", "[1]", "{", "\u{0}"] {
            assert!(members(body.as_bytes()).is_none(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(members) = members(&body) {
                drop(tokens(&members, None));
            }
        }
    }
}
