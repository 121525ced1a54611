//! When a token is refreshed: a function of its stored issue time and lifetime alone.

use std::time::Duration;

use crate::ids::Spread;
use crate::policy::Policy;
use crate::time::{Timestamp, part_of};
use crate::token::TokenFacts;

/// A refresh token that is not renewed is used for its own sake no more once less than this is left.
const LAST_CHANCE: Duration = Duration::from_secs(300);

/// The part of the time that a refresh token may lie unused after which it is used.
const PART_OF_IDLE_LIMIT: f64 = 0.5;

/// The moment from which `tokens` are to be refreshed.
///
/// At [`Policy::threshold`] of the access token's lifetime, or of the refresh token's where that is
/// sooner, less up to [`Policy::early_spread`] of it. A `refresh_in` of the provider is honoured.
/// Tokens of unknown lifetime get one soft refresh every [`Policy::soft_refresh`]. Half of the time
/// that the refresh token may lie unused, and [`Policy::keep_alive`], go before any longer wait. A refresh token that was used past its own
/// point and not renewed is tried again before its end, at the same part of what is left of it, a few
/// times at most. Nothing here depends on the present, so a restart changes
/// no schedule.
pub fn refresh_at(tokens: &TokenFacts, spread: Spread, policy: &Policy) -> Timestamp {
    let part = policy.threshold - policy.early_spread * spread.fraction();
    let wanted = match (tokens.refresh_in, tokens.lifetime) {
        (Some(wanted), Some(lifetime)) => wanted.min(lifetime),
        (Some(wanted), None) => wanted,
        (None, Some(lifetime)) => part_of(lifetime, part),
        (None, None) => policy.soft_refresh,
    };
    let kept_alive = tokens.idle_limit.map(|limit| part_of(limit, PART_OF_IDLE_LIMIT));
    let wanted = policy.keep_alive.into_iter().chain(kept_alive).fold(wanted, Duration::min);
    let by_access_token = tokens.issued_at.after(wanted);
    let by_refresh_token = tokens.refresh_token_issued_at.zip(tokens.refresh_token_lifetime);
    by_refresh_token
        .and_then(|(received_at, lifetime)| before_its_end(tokens.issued_at, received_at, lifetime, part))
        .map_or(by_access_token, |at| at.min(by_access_token))
}

/// When a refresh token that was last used at `used_at` must be used again for its own sake.
fn before_its_end(used_at: Timestamp, received_at: Timestamp, lifetime: Duration, part: f64) -> Option<Timestamp> {
    let point = received_at.after(part_of(lifetime, part));
    if point > used_at {
        return Some(point);
    }
    let left = received_at.after(lifetime).since(used_at);
    (left >= LAST_CHANCE).then(|| used_at.after(part_of(left, part)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::Generation;
    use crate::secret::Fingerprint;

    fn tokens(lifetime: Option<Duration>) -> TokenFacts {
        TokenFacts {
            generation: Generation(1),
            fingerprint: Fingerprint::from_bytes([1; 16]),
            token_type: "Bearer".into(),
            issued_at: Timestamp::from_millis(1_000_000),
            lifetime,
            refresh_in: None,
            refresh_token: Some(Fingerprint::from_bytes([2; 16])),
            refresh_token_issued_at: None,
            refresh_token_lifetime: None,
            idle_limit: None,
            login_ends_at: None,
            scopes: vec![],
        }
    }

    proptest! {
        #[test]
        fn no_numbers_at_all_make_it_panic_or_leave_the_life_of_the_token(
            lifetime in proptest::option::of(1_u64..), refresh_in in proptest::option::of(1_u64..),
            refresh_lifetime in proptest::option::of(1_u64..), spread: u64, age in 0_i64..4_000_000_000_000,
        ) {
            let mut tokens = tokens(lifetime.map(Duration::from_secs));
            tokens.refresh_in = refresh_in.map(Duration::from_secs);
            tokens.refresh_token_issued_at = Some(Timestamp::from_millis(tokens.issued_at.as_millis() - age));
            tokens.refresh_token_lifetime = refresh_lifetime.map(Duration::from_secs);
            let at = refresh_at(&tokens, Spread(spread), &Policy::default());
            prop_assert!(at > tokens.issued_at && tokens.expires_at().is_none_or(|end| at <= end), "{at}");
        }

        #[test]
        fn any_known_lifetime_is_refreshed_in_its_last_fifth_or_a_little_before(secs in 1_u64..1_000_000_000, spread: u64) {
            let tokens = tokens(Some(Duration::from_secs(secs)));
            let at = refresh_at(&tokens, Spread(spread), &Policy::default());
            let part = at.since(tokens.issued_at).as_secs_f64() / secs as f64;
            prop_assert!((0.779..=0.8001).contains(&part), "{part}");
        }
    }

    #[test]
    fn a_refresh_token_that_ends_sooner_decides() {
        let mut tokens = tokens(Some(Duration::from_secs(36_000)));
        tokens.refresh_token_issued_at = Some(tokens.issued_at);
        tokens.refresh_token_lifetime = Some(Duration::from_secs(1_800));
        let at = refresh_at(&tokens, Spread(0), &Policy::default());
        assert_eq!(at.since(tokens.issued_at), Duration::from_secs(1_440));
    }

    #[test]
    fn a_refresh_token_that_is_not_renewed_causes_no_storm_before_its_end() {
        let mut tokens = tokens(Some(Duration::from_secs(3_600)));
        tokens.refresh_token_issued_at = Some(tokens.issued_at);
        tokens.refresh_token_lifetime = Some(Duration::from_secs(86_400));
        tokens.issued_at = tokens.issued_at.after(Duration::from_secs(80_000));
        let at = refresh_at(&tokens, Spread(0), &Policy::default());
        assert_eq!(at.since(tokens.issued_at), Duration::from_secs(2_880));
    }

    #[test]
    fn a_refresh_token_that_was_not_renewed_is_tried_again_before_its_end_and_not_for_ever() {
        let mut tokens = tokens(Some(Duration::from_secs(10_800)));
        let received_at = tokens.issued_at;
        let end = received_at.after(Duration::from_secs(86_400));
        tokens.refresh_token_issued_at = Some(received_at);
        tokens.refresh_token_lifetime = Some(Duration::from_secs(86_400));
        tokens.issued_at = received_at.after(Duration::from_secs(80_000));
        let mut tries = Vec::new();
        while tokens.issued_at < end {
            tokens.issued_at = refresh_at(&tokens, Spread(0), &Policy::default());
            tries.push(tokens.issued_at.since(received_at).as_secs());
        }
        assert_eq!(tries[..3], [85_120, 86_144, 86_144 + 8_640], "the last one is the access token's");
    }

    #[test]
    fn a_login_that_is_to_be_kept_alive_is_used_that_often() {
        let policy = Policy { keep_alive: Some(Duration::from_secs(86_400)), ..Policy::default() };
        let year = tokens(Some(Duration::from_secs(365 * 86_400)));
        assert_eq!(refresh_at(&year, Spread(0), &policy).since(year.issued_at), Duration::from_secs(86_400));
        let hour = tokens(Some(Duration::from_secs(3_600)));
        assert_eq!(refresh_at(&hour, Spread(0), &policy).since(hour.issued_at), Duration::from_secs(2_880));
    }

    #[test]
    fn a_login_that_ends_unused_is_used_after_half_of_that_time() {
        let mut idle = tokens(Some(Duration::from_secs(365 * 86_400)));
        idle.idle_limit = Some(Duration::from_secs(90 * 86_400));
        let at = refresh_at(&idle, Spread(0), &Policy::default());
        assert_eq!(at.since(idle.issued_at), Duration::from_secs(45 * 86_400));
        let sooner = Policy { keep_alive: Some(Duration::from_secs(86_400)), ..Policy::default() };
        assert_eq!(refresh_at(&idle, Spread(0), &sooner).since(idle.issued_at), Duration::from_secs(86_400));
        idle.lifetime = Some(Duration::from_secs(3_600));
        assert_eq!(refresh_at(&idle, Spread(0), &Policy::default()).since(idle.issued_at), Duration::from_secs(2_880));
    }

    #[test]
    fn refresh_in_is_honoured_but_never_past_the_end() {
        let mut tokens = tokens(Some(Duration::from_secs(3_600)));
        tokens.refresh_in = Some(Duration::from_secs(600));
        assert_eq!(
            refresh_at(&tokens, Spread(9), &Policy::default()).since(tokens.issued_at),
            Duration::from_secs(600)
        );
        tokens.refresh_in = Some(Duration::from_secs(7_200));
        assert_eq!(
            refresh_at(&tokens, Spread(9), &Policy::default()).since(tokens.issued_at),
            Duration::from_secs(3_600)
        );
    }

    #[test]
    fn an_unknown_lifetime_gets_a_soft_refresh_every_hour() {
        let tokens = tokens(None);
        let at = refresh_at(&tokens, Spread(9), &Policy::default());
        assert_eq!(at.since(tokens.issued_at), Duration::from_secs(3_600));
    }
}
