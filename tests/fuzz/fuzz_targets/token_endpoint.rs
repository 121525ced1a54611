//! An answer of a token endpoint: a byte for the status, a line for `Retry-After`, and the body.
#![no_main]

use std::time::Duration;

use everfresh_domain::ids::{Generation, GrantId};
use everfresh_domain::schedule::refresh_at;
use everfresh_domain::{FailureClass, Policy, Secret, Timestamp, TokenResponse, TokenSet};
use everfresh_infrastructure::fuzzing::token_endpoint;
use libfuzzer_sys::fuzz_target;

const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);
const STATUS: [u16; 12] = [200, 201, 204, 302, 400, 401, 403, 408, 422, 429, 500, 503];

fuzz_target!(|bytes: &[u8]| {
    let Some((status, rest)) = bytes.split_first() else { return };
    let status = STATUS[usize::from(*status) % STATUS.len()];
    let end_of_line = rest.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (retry_after, body) = rest.split_at(end_of_line);
    match token_endpoint(status, retry_after, body, NOW) {
        Ok(response) => tokens(status, response),
        Err(failure) => {
            let speaks_of_the_login = !matches!(failure.class, FailureClass::Provider | FailureClass::RateLimited);
            let is_refusal = matches!(status, 401 | 403);
            assert!(!speaks_of_the_login || failure.oauth_error.is_some() || is_refusal, "{failure:?}");
            assert!(failure.message.len() < 300 && failure.message.is_ascii(), "{failure:?}");
        }
    }
});

fn tokens(status: u16, response: TokenResponse) {
    assert!((200..300).contains(&status));
    assert!(!response.access_token.expose().is_empty());
    let sane = |time: Option<Duration>| time.is_none_or(|time| (1..400_000_000).contains(&time.as_secs()));
    assert!(sane(response.expires_in) && sane(response.refresh_token_expires_in) && sane(response.refresh_in));
    let had = TokenResponse { refresh_token: Some(Secret::new("kept")), ..response.clone() };
    let renewed = TokenSet::issued(had, NOW, &[]).renewed(response, NOW);
    assert!(renewed.refresh_token.as_ref().is_some_and(|token| !token.expose().is_empty()));
    let facts = renewed.facts(Generation(1));
    let grant: GrantId = "linear".parse().expect("a valid name");
    let at = refresh_at(&facts, grant.spread(), &Policy::default());
    assert!(at > facts.issued_at && facts.expires_at().is_none_or(|end| at <= end));
}
