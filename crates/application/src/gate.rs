//! The last gate before a token endpoint. The engine keeps the rules; this makes sure that no
//! mistake in it ever becomes a storm at a provider.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everfresh_domain::{Failure, FailureClass, GrantId, Policy};
use governor::clock::{Clock as GovernorClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

use crate::ports::Clock;

/// Requests to one endpoint host in one second, over all its grants.
const ENDPOINT_PER_SECOND: NonZeroU32 = NonZeroU32::new(50).expect("50 is not zero");

/// How long a request may wait here for its endpoint's turn. The engine lets so few be under way at
/// once that none waits as long as this; a longer queue is a mistake.
const TURN_MAX: Duration = Duration::from_secs(1);

type Limiter<K> = RateLimiter<K, DefaultKeyedStateStore<K>, Monotonic, NoOpMiddleware<Instant>>;

/// At most one request for each grant per spacing, and a bounded rate for each endpoint.
pub(crate) struct Gate {
    clock: Monotonic,
    grants: Mutex<Spaced>,
    endpoints: Limiter<String>,
}

/// The limit of each grant, for the spacing that the policy had when it was last asked.
struct Spaced {
    spacing: Duration,
    limiter: Limiter<GrantId>,
}

impl Spaced {
    fn new(clock: &Monotonic, spacing: Duration) -> Self {
        // A little less than the spacing: the engine measures it from a moment slightly earlier.
        let period = spacing.mul_f64(0.9).max(Duration::from_millis(1));
        let quota = Quota::with_period(period).expect("a spacing is never zero");
        Self { spacing, limiter: RateLimiter::new(quota, DefaultKeyedStateStore::default(), clock.clone()) }
    }
}

impl Gate {
    pub(crate) fn new(clock: Arc<dyn Clock>, policy: &Policy) -> Self {
        let clock = Monotonic(clock);
        let per_endpoint = Quota::per_second(ENDPOINT_PER_SECOND);
        Self {
            grants: Mutex::new(Spaced::new(&clock, policy.min_spacing)),
            endpoints: RateLimiter::new(per_endpoint, DefaultKeyedStateStore::default(), clock.clone()),
            clock,
        }
    }

    /// Lets one request through when its endpoint's turn has come, or says for how long not.
    pub(crate) async fn admit(&self, grant: &GrantId, endpoint: &str, policy: &Policy) -> Result<(), Failure> {
        self.space(grant, policy.min_spacing)?;
        let (endpoint, mut left) = (endpoint.to_owned(), TURN_MAX);
        loop {
            let Err(busy) = self.endpoints.check_key(&endpoint) else { return Ok(()) };
            let wait = busy.wait_time_from(self.clock.now());
            left = left.checked_sub(wait).ok_or_else(|| held(wait))?;
            tokio::time::sleep(wait).await;
        }
    }

    fn space(&self, grant: &GrantId, spacing: Duration) -> Result<(), Failure> {
        let mut spaced = self.lock();
        if spaced.spacing != spacing {
            // Whoever was let through a moment ago is still known to the engine.
            *spaced = Spaced::new(&self.clock, spacing);
        }
        spaced.limiter.check_key(grant).map_err(|busy| held(busy.wait_time_from(self.clock.now())))
    }

    /// Forgets what is of no use any more, so that the limits never grow with time.
    pub(crate) fn forget_idle(&self) {
        self.lock().limiter.retain_recent();
        self.endpoints.retain_recent();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Spaced> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn held(wait: Duration) -> Failure {
    Failure {
        endpoint_gone: false,
        retry_after: Some(wait),
        ..Failure::without_answer(FailureClass::HeldBack, "held back by everfresh's own rate limit")
    }
}

/// The clock port as governor wants it: virtual in tests, like all other time.
#[derive(Clone)]
struct Monotonic(Arc<dyn Clock>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Instant(Duration);

impl GovernorClock for Monotonic {
    type Instant = Instant;

    fn now(&self) -> Instant {
        Instant(self.0.monotonic())
    }
}

impl Reference for Instant {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_sub(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.saturating_sub(duration.into()))
    }
}

impl std::ops::Add<Nanos> for Instant {
    type Output = Self;

    fn add(self, nanos: Nanos) -> Self {
        Self(self.0.saturating_add(nanos.into()))
    }
}

#[cfg(test)]
mod tests {
    use everfresh_domain::Timestamp;

    use super::*;

    /// Tokio's paused time as the clock port.
    struct Paused(tokio::time::Instant);

    impl Clock for Paused {
        fn now(&self) -> Timestamp {
            Timestamp::EPOCH.after(self.monotonic())
        }

        fn monotonic(&self) -> Duration {
            self.0.elapsed()
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn gate() -> (Gate, Policy) {
        let policy = Policy::default();
        (Gate::new(Arc::new(Paused(tokio::time::Instant::now())), &policy), policy)
    }

    fn grant(number: usize) -> GrantId {
        format!("s{number}").parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_grant_passes_once_for_each_spacing() {
        let (gate, policy) = gate();
        gate.admit(&grant(1), "as.example", &policy).await.unwrap();
        let held = gate.admit(&grant(1), "as.example", &policy).await.unwrap_err();
        assert_eq!((held.class, held.retry_after), (FailureClass::HeldBack, Some(SECOND * 9)));
        gate.admit(&grant(2), "as.example", &policy).await.unwrap();
        tokio::time::sleep(SECOND * 9).await;
        gate.admit(&grant(1), "as.example", &policy).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_spacing_is_the_one_that_the_policy_has_at_that_moment() {
        let (gate, policy) = gate();
        gate.admit(&grant(1), "as.example", &policy).await.unwrap();
        let quick = Policy { min_spacing: SECOND, ..policy.clone() };
        tokio::time::sleep(SECOND).await;
        gate.admit(&grant(1), "as.example", &quick).await.unwrap();
        let slow = Policy { min_spacing: SECOND * 100, ..policy };
        gate.admit(&grant(1), "as.example", &slow).await.unwrap();
        tokio::time::sleep(SECOND * 50).await;
        gate.admit(&grant(1), "as.example", &slow).await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_is_asked_by_many_lets_them_pass_in_turn() {
        let (gate, policy) = gate();
        let began = tokio::time::Instant::now();
        for number in 0..300 {
            gate.admit(&grant(number), "as.example", &policy).await.unwrap();
        }
        let took = began.elapsed();
        assert!((SECOND * 4..=SECOND * 6).contains(&took), "250 after the first 50, at 50 a second: {took:?}");
        gate.admit(&grant(301), "other.example", &policy).await.unwrap();
        assert_eq!(began.elapsed(), took, "another endpoint has its own turns");
    }

    /// As a defect of the engine would have it: a thousand at once.
    #[tokio::test(start_paused = true)]
    async fn a_storm_does_not_pass() {
        let (gate, policy) = gate();
        let gate = Arc::new(gate);
        let mut asking = tokio::task::JoinSet::new();
        for number in 0..1_000 {
            let (gate, policy) = (Arc::clone(&gate), policy.clone());
            asking.spawn(async move { gate.admit(&grant(number), "as.example", &policy).await.is_ok() });
        }
        let passed = asking.join_all().await.into_iter().filter(|passed| *passed).count();
        assert!((50..=101).contains(&passed), "{passed} within a second");
    }
}
