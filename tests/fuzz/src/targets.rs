//! What each target does with the bytes that it gets. The targets themselves only hand them over, so
//! that `crates/everfresh/tests/corpora.rs` does the same with the corpora on any compiler.

use std::fmt::Debug;
use std::time::Duration;

use everfresh_application::ServerSettings;
use everfresh_application::challenge::{Scheme, parse_www_authenticate};
use everfresh_application::ports::JournalEntry;
use everfresh_domain::engine::trace::TraceLine;
use everfresh_domain::grant::ClientRegistration;
use everfresh_domain::ids::{Generation, GrantId};
use everfresh_domain::schedule::refresh_at;
use everfresh_domain::{Engine, FailureClass, GrantRecord, Policy, Secret, Timestamp, TokenResponse, TokenSet};
use serde::Serialize;
use serde::de::DeserializeOwned;

const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);
const STATUS: [u16; 12] = [200, 201, 204, 302, 400, 401, 403, 408, 422, 429, 500, 503];

/// What a browser brings back from a provider, or anybody else makes up.
pub fn callback_query(bytes: &[u8]) {
    if let Ok(query) = std::str::from_utf8(bytes) {
        everfresh_presentation::fuzzing::callback_query(query);
    }
}

/// Metadata of servers and of protected resources, and answers to a registration.
pub fn metadata(bytes: &[u8]) {
    everfresh_infrastructure::fuzzing::documents(bytes);
}

/// The database of another program that logins are imported from.
pub fn bolt(bytes: &[u8]) {
    everfresh_infrastructure::fuzzing::bolt(bytes);
}

/// A document of logins, or a configuration of a client that starts mcp-remote.
pub fn import_document(bytes: &[u8]) {
    everfresh_infrastructure::fuzzing::import_document(bytes);
}

/// What upstreams say in `WWW-Authenticate`.
pub fn www_authenticate(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for sent in [Scheme::Bearer, Scheme::Dpop] {
        if let Some(challenge) = parse_www_authenticate(text.lines(), sent) {
            assert!(challenge.scopes.iter().all(|scope| !scope.is_empty() && !scope.contains(' ')));
        }
    }
}

/// Steps of the engine in any order, at any times: none of them may break it.
pub fn engine_trace(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut engine = None;
    for line in text.lines() {
        match serde_json::from_str::<TraceLine>(line) {
            Ok(TraceLine::Began { at, run, policy }) if policy.validate().is_ok() => {
                engine = Some(Engine::new(at, run, *policy));
            }
            Ok(TraceLine::Told { at, event, actions: _ }) => {
                let Some(engine) = &mut engine else { continue };
                drop(engine.handle(at, *event));
                drop(engine.next_wake());
                let grants: Vec<_> = engine.grants().cloned().collect();
                for grant in grants {
                    let status = engine.status(&grant, at).expect("it is known");
                    drop(status.health(at, engine.policy()));
                }
            }
            Ok(TraceLine::Began { .. }) | Err(_) => {}
        }
    }
}

/// Bytes of the store: sealed ones, and every kind of record that is in them.
pub fn stored_record(bytes: &[u8]) {
    everfresh_infrastructure::fuzzing::sealed(bytes);
    everfresh_infrastructure::fuzzing::journal_key(bytes);
    if let Some(record) = reread::<GrantRecord>(bytes) {
        let facts = record.facts();
        assert!(facts.sendable.is_none_or(|token| !record.refused.contains(&token)));
    }
    reread::<ServerSettings>(bytes);
    reread::<ClientRegistration>(bytes);
    reread::<JournalEntry>(bytes);
}

/// What is read can be written, and is the same when it is read again.
fn reread<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let read = serde_json::from_slice::<T>(bytes).ok()?;
    let written = serde_json::to_vec(&read).expect("what was read can be written");
    assert_eq!(serde_json::from_slice::<T>(&written).expect("and read again"), read);
    Some(read)
}

/// An answer of a token endpoint: a byte for the status, a line for `Retry-After`, and the body.
pub fn token_endpoint(bytes: &[u8]) {
    let Some((status, rest)) = bytes.split_first() else { return };
    let status = STATUS[usize::from(*status) % STATUS.len()];
    let end_of_line = rest.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (retry_after, body) = rest.split_at(end_of_line);
    match everfresh_infrastructure::fuzzing::token_endpoint(status, retry_after, body, NOW) {
        Ok(response) => tokens(status, response),
        Err(failure) => {
            let speaks_of_the_login = !matches!(failure.class, FailureClass::Provider | FailureClass::RateLimited);
            let is_refusal = matches!(status, 401 | 403);
            assert!(!speaks_of_the_login || failure.oauth_error.is_some() || is_refusal, "{failure:?}");
            assert!(failure.message.len() < 300 && failure.message.is_ascii(), "{failure:?}");
        }
    }
}

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
