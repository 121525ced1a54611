//! What upstreams say in `WWW-Authenticate`.
#![no_main]

use everfresh_application::challenge::{Scheme, parse_www_authenticate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for sent in [Scheme::Bearer, Scheme::Dpop] {
        if let Some(challenge) = parse_www_authenticate(text.lines(), sent) {
            assert!(challenge.scopes.iter().all(|scope| !scope.is_empty() && !scope.contains(' ')));
        }
    }
});
