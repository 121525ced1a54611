//! The domain used from outside: ten years of three logins with hourly tokens, in a moment.
//!
//! `cargo run --package everfresh-domain --example outside`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use everfresh_domain::engine::{Action, AttemptOutcome, AttemptReport, Engine, Event};
use everfresh_domain::grant::GrantFacts;
use everfresh_domain::{Budget, Fingerprint, Generation, GrantId, Policy, Timestamp, TokenFacts};

const HOUR: Duration = Duration::from_secs(3_600);
const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

fn facts(generation: Generation, now: Timestamp) -> Box<GrantFacts> {
    let refresh_token = Some(Fingerprint::of(&generation.0.to_le_bytes()));
    Box::new(GrantFacts {
        generation,
        issuer: "https://as.example".into(),
        endpoint: "as.example".into(),
        grant_type: everfresh_domain::grant::GrantType::AuthorizationCode,
        tokens: Some(TokenFacts {
            generation,
            fingerprint: Fingerprint::of(b"access"),
            token_type: "Bearer".into(),
            issued_at: now,
            lifetime: Some(HOUR),
            refresh_in: None,
            refresh_token,
            refresh_token_issued_at: None,
            refresh_token_lifetime: None,
            idle_limit: None,
            login_ends_at: None,
            scopes: Vec::new(),
        }),
        sendable: refresh_token,
        answer_lost: None,
        last_attempt_at: Some(now),
        last_success_at: Some(now),
        client_secret_expires_at: None,
        strikes: None,
        budget: Budget::default(),
        lost_scopes: Vec::new(),
        requested_scopes: Vec::new(),
        step_ups: 0,
        logged_in_at: None,
        ended: None,
    })
}

fn main() {
    let mut now = Timestamp::EPOCH;
    let end = now.after(TEN_YEARS);
    let mut engine = Engine::new(now, 0, Policy::default());
    let mut refreshes = 0_u64;
    for name in ["linear", "github", "github@work"] {
        let grant: GrantId = name.parse().expect("a valid name");
        engine.handle(now, Event::Loaded { grant, enabled: true, facts: Some(facts(Generation(1), now)) });
    }
    while now < end {
        let Some(wake) = engine.next_wake() else { break };
        now = wake.at;
        for action in engine.handle(now, Event::Woke) {
            let Action::Attempt(attempt) = action else { continue };
            refreshes += 1;
            let outcome = AttemptOutcome::Stored(facts(attempt.generation.next(), now));
            let report = AttemptReport { attempt: attempt.id, grant: attempt.grant, outcome };
            engine.handle(now, Event::AttemptEnded(report));
        }
    }
    println!("{refreshes} refreshes until {now}");
}
